package harness

import (
	"fmt"
	"time"
)

// gone waits until none of the processes is left.
func gone(pids []int, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, pid := range pids {
		for alive(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d still runs after %v", pid, timeout)
			}
			<-tick.C
		}
	}
	return nil
}

// alive reports whether the process runs. One that has ended and that nobody
// has asked after (an orphan where process 1 does not reap) counts as gone.
func alive(pid int) bool {
	state, _, err := processState(pid)
	return err == nil && state != "Z"
}
