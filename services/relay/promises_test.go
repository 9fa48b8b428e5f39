package relay_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/services/relay"
)

// Promise 1: Nothing invented, nothing lost. Promise 2: Order. Promise 3: Exactly once in Kafka. An event is published if and
// only if its transaction committed; events of one key in commit order; each once.
func TestPromise123CommittedEventsArePublishedOnceInOrder(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(func(c *relay.Config) { c.PageSize = 50 })
		r.write(load{writers: 12, transactions: 150, keys: 20, seed: 1, pause: 20 * time.Millisecond})
		run.untilSeq(r.rows())
		if err := run.stop(); err != nil {
			t.Error(err)
		}
		r.checkPublished()
	})
}

// Promise 3: Exactly once in Kafka, across restarts: the relay is stopped without mercy at every point, over and over, in mid-window.
func TestPromise3ExactlyOnceAcrossRestarts(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		r.write(load{writers: 8, transactions: 350, keys: 10, seed: 2}) // up to 28 events a commit
		r.killAt(relay.PointFirst, 1)
		for round := range int64(15) {
			switch round % 4 {
			case 0:
				r.killAt(relay.PointFence, 1)
			case 1:
				r.killAt(relay.PointProduced, 1+round)
			case 2:
				r.killAt(relay.PointCommitting, 1+round)
			case 3:
				r.killAt(relay.PointCommitted, 1+round)
			}
		}
		run := r.run(func(c *relay.Config) { c.PageSize = 40 })
		run.untilSeq(r.rows())
		if err := run.stop(); err != nil {
			t.Error(err)
		}
		r.checkPublished()
	})
}

// killAt runs a relay until it has passed a point some times, and then lets it finish nothing.
func (r *rig) killAt(point string, times int64) {
	r.t.Helper()
	var passed atomic.Int64
	reached, dead := make(chan struct{}), make(chan struct{})
	run := r.run(func(c *relay.Config) { c.PageSize, c.StopTimeout = 7, time.Nanosecond }, func(made *relay.Relay) {
		made.AtPoints(func(at string) {
			if at != point || passed.Add(1) != times {
				return
			}
			close(reached)
			<-dead
		})
	})
	select {
	case <-reached:
	case <-run.ended:
		r.t.Fatalf("the relay ended before it was %d times at %s: %v", times, point, run.err)
	case <-time.After(30 * time.Second):
		r.t.Fatalf("the relay was not %d times at %s: %+v", times, point, run.Status())
	}
	run.cancel()
	close(dead)
	_ = run.wait()
}

// A standby takes over within five seconds when the leader goes, and publishes nothing before.
func TestPromise3AStandbyTakesOver(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		a := r.run(nil)
		a.until("a to lead", func(s relay.Status) bool { return s.State == relay.StateLeading })
		b := r.run(nil)
		r.emit("k", 1)
		a.untilSeq(1)
		if s := b.Status(); s.State != relay.StateStandby {
			t.Errorf("b is %s while a leads", s.State)
		}
		if err := b.Ready(); err != nil {
			t.Errorf("a standby is ready: %v", err)
		}
		began := time.Now()
		if err := a.stop(); err != nil {
			t.Error(err)
		}
		r.emit("k", 2)
		b.untilSeq(2)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("taking over took %v", took)
		}
		r.checkPublished()
	})
}

// Two relays that both believe to lead fence each other, over and over. At most one commits each transaction.
func TestPromise3TwoRelaysNeverPublishTwice(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		alone := func(made *relay.Relay) { made.LeadWithoutElection() }
		small := func(c *relay.Config) { c.PageSize = 20 }
		a, b := r.run(small, alone), r.run(small, alone)
		r.write(load{writers: 8, transactions: 80, keys: 10, seed: 3, pause: 10 * time.Millisecond})
		rows := r.rows()
		eventually(t, "either to publish everything", func() error {
			if s, u := a.Status(), b.Status(); s.Seq < rows && u.Seq < rows {
				return fmt.Errorf("a %+v, b %+v", s, u)
			}
			return nil
		})
		t.Logf("restarts: a %d, b %d", a.Status().Restarts, b.Status().Restarts)
		if a.Status().Restarts+b.Status().Restarts == 0 {
			t.Error("the relays never fenced each other")
		}
		for _, run := range []*running{a, b} {
			if err := run.stop(); err != nil {
				t.Error(err)
			}
		}
		r.checkPublished()
	})
}

// A foreign transaction that holds an xid delays nothing but itself.
func TestPromise5AStrangersTransactionDelaysNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	tx, err := r.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if err := r.out.Write(t.Context(), tx, counted("slow", 1)); err != nil {
		t.Fatal(err)
	}
	run := r.run(nil)
	for n := int64(1); n <= 20; n++ {
		r.emit("fast", n)
		run.untilSeq(n)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	run.untilSeq(21)
	r.checkPublished()
}
