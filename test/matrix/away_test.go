package matrix

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// awayForLong is a store that cannot be reached for longer than the session lasts: the partitions stay where they are, nobody
// rebalances, and when it is back the work goes on.
func awayForLong(t *testing.T, kind string) {
	r := newRig(t, kind, 2)
	r.fill(200)
	p, other := r.start(), r.start()
	r.owns(p, 1)
	r.owns(other, 1)
	r.caughtUp()
	_, before, err := r.members(t.Context())
	if err != nil || len(strings.Fields(before)) != 2 {
		t.Fatalf("members %q, %v", before, err)
	}
	moves := r.moves()
	r.wire.cut()
	r.fill(400)
	r.eventually("both to wait", func() error {
		for _, one := range r.procs {
			s, err := r.status(one)
			if err != nil {
				return err
			}
			if !strings.Contains(s.Problem, "waiting for sink") {
				return fmt.Errorf("%q", s.Problem)
			}
		}
		return nil
	})
	for end := time.Now().Add(2*sessionTimeout + sessionTimeout/2); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		state, now, err := r.members(t.Context())
		if err == nil && (state != "Stable" || now != before) {
			err = errors.New("the group is " + state + " with other members")
		}
		if err != nil {
			t.Fatalf("while the store is away: %v", err)
		}
	}
	r.wire.mend()
	r.caughtUp()
	if now := r.moves(); now != moves {
		t.Errorf("before the store was away: %s; after it: %s", moves, now)
	}
	r.fill(100)
	r.verify()
}

// moves are how often partitions have come and gone, as the processes tell.
func (r *rig) moves() string {
	var log string
	for _, p := range r.procs {
		log += p.Output()
	}
	return fmt.Sprintf("%d claimed, %d released, %d times lost", strings.Count(log, "partition claimed"), strings.Count(log, "partition released"), strings.Count(log, "partitions lost"))
}
