package sink

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
)

// cutOff is a store without transactions whose batches are cut off between states and position, from some moment on.
type cutOff struct {
	mu      sync.Mutex
	on      bool
	fenced  bool
	looks   int
	shown   map[consumers.TopicPartition]int64 // how far generation 1 shows what came
	has     map[consumers.TopicPartition]int64 // how far generation 2 has it
	follow  chan struct{}                      // closed when generation 2 may go on
	missing []consumers.TopicPartition         // of what generation 2 lacked when readers were moved to it
}

func (c *cutOff) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = true
}

func (c *cutOff) commit(ctx context.Context, n int, b fold.Commit) error {
	c.mu.Lock()
	on := c.on
	if on && n == 1 {
		c.shown[b.TopicPartition] = max(c.shown[b.TopicPartition], b.Next)
	}
	c.mu.Unlock()
	switch {
	case !on:
		return nil
	case n == 1:
		return errors.New("cut off behind the states")
	}
	select {
	case <-c.follow:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *cutOff) committed(n int, b fold.Commit) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == 2 {
		c.has[b.TopicPartition] = b.Next
	}
	return nil
}

func (c *cutOff) claim(n int, _ consumers.TopicPartition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fenced = c.fenced || c.on && n == 1
}

// positions lets generation 2 go on when it was looked at a few times since the fence: whoever takes the first look for enough has moved the readers by then.
func (c *cutOff) positions(_ context.Context, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fenced && n == 2 {
		if c.looks++; c.looks == 5 {
			close(c.follow)
		}
	}
	return nil
}

func (c *cutOff) serve(_ context.Context, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for tp, next := range c.shown {
		if n == 2 && c.has[tp] < next {
			c.missing = append(c.missing, tp)
		}
	}
	c.on = false
	return nil
}

// Promise 8: OpenSearch and Redis have no transactions, and show the states of a batch that was cut off before its position was written. Readers who have seen them find them when they are moved.
func TestPromise8_WhatABatchThatWasCutOffHasShownIsThereWhenReadersAreMoved(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	long := &readers{}
	long.come()
	c := &cutOff{shown: map[consumers.TopicPartition]int64{}, has: map[consumers.TopicPartition]int64{}, follow: make(chan struct{})}
	v.tap(&taps{await: long.await, commit: c.commit, committed: c.committed, claim: c.claim, positions: c.positions, serve: c.serve})
	v.open(300)
	v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	v.ask(rebuild.Start, nil)
	v.heldUpByReport()
	c.begin()
	v.open(50)
	v.until("a batch is cut off", func(rebuild.Record) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.shown) > 0
	})
	long.leave()
	v.inState(rebuild.Soaking)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.missing) > 0 {
		t.Errorf("readers were moved to a generation that lacks what they have seen of %v", c.missing)
	}
}
