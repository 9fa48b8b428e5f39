//go:build crashpoints

package crashpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The variables that name a point, and which time of it.
const (
	crashPointEnv  = "MILLRACE_CRASH_POINT"
	freezePointEnv = "MILLRACE_FREEZE_POINT"
)

// freezePause is how long a goroutine that stopped its process waits, awake, for the signal to arrive: the kernel may hand
// it to another thread first. The clock goes on while the process is stopped, so that it goes on at once when woken.
const freezePause = 200 * time.Millisecond

var staged struct {
	mu      sync.Mutex // guards the following
	reached map[string]int
}

// Reach is called when a point is reached. It counts how often that was, in this process, and does what the environment says.
func Reach(point string) {
	staged.mu.Lock()
	if staged.reached == nil {
		staged.reached = map[string]int{}
	}
	staged.reached[point]++
	n := staged.reached[point]
	staged.mu.Unlock()
	if is(crashPointEnv, point, n) {
		fmt.Fprintf(os.Stderr, "crash point %s:%d\n", point, n)
		stage(syscall.SIGKILL)
	}
	if is(freezePointEnv, point, n) {
		fmt.Fprintf(os.Stderr, "freeze point %s:%d\n", point, n)
		stage(syscall.SIGSTOP)
	}
}

// is says whether a variable names the n-th time of a point.
func is(env, point string, n int) bool {
	name, times, found := strings.Cut(os.Getenv(env), ":")
	if name != point {
		return false
	}
	want := 1
	if found {
		var err error
		if want, err = strconv.Atoi(times); err != nil {
			panic(fmt.Sprintf("%s: %q is no number", env, times))
		}
	}
	return n == want
}

func stage(sig syscall.Signal) {
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		panic(fmt.Sprintf("send %v to this process: %v", sig, err))
	}
	time.Sleep(freezePause)
}
