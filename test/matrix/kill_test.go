package matrix

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// killed is kill -9 at each point of a batch: everything before it has reached the store, nothing after it.
func killed(t *testing.T, kind string) {
	if !onServer(kind) {
		killedSomewhere(t, kind)
		return
	}
	for _, p := range points[kind] {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind, 2)
			r.fill(200)
			victim := r.start()
			r.caughtUp()
			trap := r.wire.arm(p, func() { victim.kill(t) })
			r.fill(400)
			r.reached(trap)
			r.wire.disarm()
			r.start()
			r.fill(100)
			r.verify()
		})
	}
}

// reached waits until a trap has fallen.
func (r *rig) reached(trap *trap) {
	r.t.Helper()
	r.eventually("point "+trap.name, func() error {
		select {
		case <-trap.fallen:
			return nil
		default:
			return errors.New("not reached")
		}
	})
}

// killedSomewhere is for a store in the process: the moment is left to chance, within the time in which batches are applied.
func killedSomewhere(t *testing.T, kind string) {
	r := newRig(t, kind, 2)
	r.fill(200)
	for range 3 {
		victim := r.start()
		r.caughtUp()
		before := r.positions()
		r.fill(3000)
		r.eventually("the next batch", func() error {
			if now := r.positions(); now[0] == before[0] && now[1] == before[1] {
				return fmt.Errorf("it is at %v", now)
			}
			return nil
		})
		time.Sleep(time.Duration(rand.N(40 * time.Millisecond))) // so that it dies anywhere within a batch
		victim.kill(t)
	}
	r.start()
	r.verify()
}

// zombie is a process that is stopped in mid-batch, until another has taken over and done its work, and then goes on.
func zombie(t *testing.T, kind string) {
	for _, n := range map[string][]int{"postgres": {0, 2}, "opensearch": {0, 1}, "redis": {0}, "webhook": {0, 1}}[kind] {
		p := points[kind][n]
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind, 2)
			r.fill(200)
			frozen := r.start()
			r.caughtUp()
			trap := r.wire.arm(p, func() { frozen.Freeze(t) })
			r.fill(400)
			r.reached(trap)
			heir := r.start()
			r.owns(heir, 2)
			r.fill(100)
			r.caughtUp()
			frozen.Thaw(t)
			r.wire.disarm() // what it had sent before arrives now
			r.fill(100)
			r.eventually("both to share the partitions", func() error {
				one, err := r.status(frozen)
				other, err2 := r.status(heir)
				if err = errors.Join(err, err2); err == nil && (len(one.Partitions) != 1 || len(other.Partitions) != 1) {
					err = fmt.Errorf("they have %d and %d", len(one.Partitions), len(other.Partitions))
				}
				return err
			})
			r.fill(100)
			r.verify()
		})
	}
}

// ddl is a change of tables while another process is in mid-batch: a barrier. The change waits for the batch, and the process with the
// old declaration writes no more.
func ddl(t *testing.T, kind string) {
	r := newRig(t, kind, 2)
	r.fill(200)
	old := r.start()
	r.caughtUp()
	trap := r.wire.arm(points[kind][2], func() {})
	r.fill(400)
	r.reached(trap)
	r.write("projections/account.yaml", fmt.Sprintf(declaration, r.topic, ", twice: event.amount * 2"))
	changed := r.start()
	old.killed.Store(true) // it may end: it is replaced
	r.eventually("the change to wait for the batch", func() error { return r.waitsForBarrier() })
	r.wire.disarm()
	r.eventually("the old declaration to end", func() error {
		s, err := r.status(changed)
		if err == nil && len(s.Partitions) != 2 {
			err = fmt.Errorf("the process with the new one has %d partitions", len(s.Partitions))
		}
		return err
	})
	r.fill(100)
	r.caughtUp()
	if old.Running() {
		old.kill(t) // it has said that it is replaced, and would end with 1
	}
	r.procs = []*process{changed}
	r.verify()
	r.wantTwice()
}
