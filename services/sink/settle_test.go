package sink

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
)

// Promise 8: recorded decisions about dead letters are repeated, also those that are made while the generation is built: before the comparison, and between it and the swap. What was
// redriven is applied there too, what was dropped is left out, and the keys go on.
func TestPromise8_WhatIsDecidedDuringARebuildIsFollowed(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	var armed atomic.Bool
	compared, decided := make(chan struct{}), make(chan struct{})
	v.tap(&taps{finish: func(ctx context.Context, n int) error {
		if n != 2 || !armed.Swap(false) {
			return nil
		}
		close(compared)
		select {
		case <-decided:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	v.open(100)
	v.bad("account-1")
	v.bad("account-2")
	v.bad("account-3")
	v.open(200)
	first := v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	first.end()
	const more = ", total: event.amount"
	v.run(v.cfg, v.declare(more))
	v.recorded()
	v.ask(rebuild.Start, nil)
	v.inState(rebuild.Refused) // its differences wait to be accepted
	v.settle(dlq.Filter{Key: "account-1"})
	v.open(50)
	armed.Store(true)
	v.ask(rebuild.Accept, nil)
	select {
	case <-compared:
	case <-t.Context().Done():
		t.Fatal("the generations are not compared")
	}
	v.settle(dlq.Filter{Key: "account-2"})
	close(decided)
	rec := v.until("it serves", func(rec rebuild.Record) bool {
		return rec.Rebuild == nil || rec.Rebuild.State == rebuild.Soaking || rec.Rebuild.State == rebuild.Failed || rec.Rebuild.State == rebuild.Refused && rec.Rebuild.Options.AcceptChanges
	})
	if rec.Rebuild == nil || rec.Rebuild.State != rebuild.Soaking {
		t.Fatalf("%+v", rec.Rebuild)
	}
	old, now := v.generation(1, ""), v.generation(2, more)
	v.open(100)
	v.applied(old)
	v.applied(now)
	for key, want := range old.States("account") {
		if got := now.States("account")[key]; got.Version != want.Version {
			t.Errorf("%s has version %d, before %d", key, got.Version, want.Version)
		}
	}
	if a, b := len(old.Events(v.topic)), len(now.Events(v.topic)); a != b {
		t.Errorf("%d events are kept, before %d", b, a)
	}
	v.marked(now, "account-3")
}

// Promise 8: nor is what is decided lost when both generations were equal, and readers are about to be moved.
func TestPromise8_WhatIsDecidedBehindAComparisonIsFollowed(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	long := &readers{}
	long.come()
	v.tap(&taps{await: long.await})
	v.open(100)
	v.bad("account-1")
	v.bad("account-2")
	v.open(200)
	v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	v.settle(dlq.Filter{Key: "account-2"})
	v.bad("account-3")
	v.ask(rebuild.Start, nil)
	v.heldUpByReport()
	v.settle(dlq.Filter{Key: "account-1"})
	long.leave()
	v.inState(rebuild.Soaking)
	old, now := v.generation(1, ""), v.generation(2, "")
	v.open(100)
	v.applied(old)
	v.applied(now)
	for key, want := range old.States("account") {
		if got := now.States("account")[key]; got.Version != want.Version {
			t.Errorf("%s has version %d, before %d", key, got.Version, want.Version)
		}
	}
	v.marked(now, "account-3")
}

// marked looks which keys of a generation wait behind a bad event.
func (v *vault) marked(of fold.Sink, want string) {
	v.t.Helper()
	at, err := of.Positions(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	eventually(v.t, "only "+want+" waits", func() error {
		got := ""
		for tp := range at {
			c, err := of.Claim(v.t.Context(), tp) // takes it from the sink, which takes it back
			if err != nil {
				return err
			}
			for key := range c.Quarantined {
				got += key
			}
		}
		if got != want {
			return errors.New(fmt.Sprint("waiting: ", got))
		}
		return nil
	})
}

// Promise 8: what was dropped stays dropped, also where the new declaration could apply it.
func TestPromise8_WhatWasDroppedIsNotAppliedByADeclarationThatCould(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(42) // the last one cannot be applied
	first := v.run(v.cfg, v.declare(", part: 100 / (event.amount - 42)"))
	old := v.generation(1, ", part: 100 / (event.amount - 42)")
	v.applied(old)
	v.settle(dlq.Filter{Key: "account-42"})
	v.recorded()
	first.end()
	const more = ", part: event.amount"
	v.run(v.cfg, v.declare(more))
	v.recorded()
	v.ask(rebuild.Start, &rebuild.Options{AcceptChanges: true})
	rec := v.until("it is compared", func(rec rebuild.Record) bool {
		return rec.Rebuild != nil && (rec.Rebuild.State == rebuild.Soaking || rec.Rebuild.State == rebuild.Refused || rec.Rebuild.State == rebuild.Failed)
	})
	if rec.Rebuild.State != rebuild.Soaking {
		t.Errorf("it is %s: %s %+v", rec.Rebuild.State, rec.Rebuild.Reason, rec.Rebuild.Comparison)
	}
	if st, there := v.generation(2, more).States("account")["account-42"]; there {
		t.Errorf("what was dropped is applied: %+v", st)
	}
}
