package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
)

// positions are those of the sink.
func (r *rig) positions() map[consumers.TopicPartition]int64 {
	r.t.Helper()
	at, err := r.sink.Positions(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return at
}

// Promise 8: two generations are compared at one cut. A consumer that is held stands at the very offset, inside what was a batch or on a transaction's marker, and goes on from
// there without losing or repeating an event.
func TestAHeldConsumerStandsAtTheVeryOffset(t *testing.T) {
	onBrokers(t, 2, func(t *testing.T, r *rig) {
		r.fill(600, 13)
		cfg := r.config()
		c := start(t, cfg, r.fold())
		r.caughtUp()
		if err := c.Hold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		before := r.positions()
		r.fill(900, 13)
		// Every third offset of what is waiting, as far as the first 60: events, markers, and what was aborted.
		for step := int64(1); step < 60; step += 3 {
			at := maps.Clone(before)
			for tp := range at {
				at[tp] += step
			}
			if err := c.Hold(t.Context(), at); err != nil {
				t.Fatal(err)
			}
			if got := r.positions(); !maps.Equal(got, at) {
				t.Fatalf("held at %v, and the sink is at %v", at, got)
			}
		}
		for _, p := range c.Status().Partitions {
			if p.State != consumers.Held {
				t.Errorf("partition %d is %s", p.Partition, p.State)
			}
		}
		if err := c.Hold(t.Context(), before); !errors.Is(err, consumers.ErrPassed) {
			t.Errorf("held at where it has been: %v", err)
		}
		c.Release()
		r.caughtUp()
		r.wantSums()
	})
}

// A batch in hand is finished before the consumer stands, and a partition that comes to a consumer that is held is held.
func TestHoldingIsForPartitionsThatComeAsWell(t *testing.T) {
	r := fakeRig(t, 3)
	r.fill(100, 7)
	c, err := consumers.New(r.config(), r.fold())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Hold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	run := running{Consumer: c, t: t, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	run.stop = cancel
	go func() { run.done <- c.Run(ctx) }()
	t.Cleanup(func() { _ = run.end() })
	eventually(t, "every partition to stand", func() error {
		held := 0
		for _, p := range c.Status().Partitions {
			if p.State == consumers.Held {
				held++
			}
		}
		if held != 3 {
			return fmt.Errorf("%d of 3", held)
		}
		return nil
	})
	time.Sleep(100 * time.Millisecond) // to do what it must not
	if at := r.positions(); len(at) != 0 {
		t.Errorf("a consumer that is held has applied something: %v", at)
	}
	c.Release()
	r.caughtUp()
	r.wantSums()
}
