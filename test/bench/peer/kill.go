package peer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// quiet is how long nothing may arrive before a topic counts as complete.
const quiet = 3 * time.Second

// KillResult is a drain that was killed in its middle and started again.
type KillResult struct {
	Setting  string `json:"setting"`
	Events   int    `json:"events"`
	Sent     int    `json:"sent_before_the_kill"`
	Repeated int    `json:"sent_again"` // records whose event was in the topic already
	Missing  int    `json:"missing"`    // events that never came
	// Restart is the time from the second start of the process to its first record, in seconds.
	Restart float64 `json:"restart_to_first_record_seconds"`
}

// Kill ends the worker with SIGKILL when half of a backlog of N events is in the topic, starts it again, and counts
// what was sent twice.
func Kill(ctx context.Context, o Options, progress func(string)) (result KillResult, err error) {
	r, err := newRun(ctx, o, "kill", progress)
	if err != nil {
		return KillResult{}, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.inserter.load(ctx, 0, r.o.N, r.progress); err != nil {
		return KillResult{}, err
	}
	if err := r.worker.start(); err != nil {
		return KillResult{}, err
	}
	if err := r.until(ctx, r.o.N/2, func(moment) {}); err != nil {
		return KillResult{}, err
	}
	r.worker.kill()
	if err := r.outbox.released(ctx); err != nil {
		return KillResult{}, err
	}
	return r.again(ctx)
}

// again starts the worker once more and counts what there is in the end.
func (r *run) again(ctx context.Context) (KillResult, error) {
	sent, err := r.topic.count(ctx)
	if err != nil {
		return KillResult{}, err
	}
	if sent >= r.o.N {
		return KillResult{}, fmt.Errorf("the worker had sent all %d events when it was killed: take more", r.o.N)
	}
	r.progress(fmt.Sprintf("killed after %d of %d events; starting again", sent, r.o.N))
	begin := time.Now()
	if err := r.worker.start(); err != nil {
		return KillResult{}, err
	}
	c := &census{sent: sent, seen: make([]bool, r.o.N), last: begin}
	var failed error
	err = r.topic.read(ctx, c.add, func() bool {
		failed = r.worker.check()
		return failed != nil || c.complete()
	})
	if err := errors.Join(err, failed); err != nil {
		return KillResult{}, err
	}
	if c.restarted.IsZero() {
		return KillResult{}, fmt.Errorf("the worker sent nothing after its second start; its last output:\n%s",
			lastLines(r.worker.process.Output(), 30))
	}
	return KillResult{Setting: r.o.Label, Events: r.o.N, Sent: sent, Repeated: c.records - c.events,
		Missing: r.o.N - c.events, Restart: c.restarted.Sub(begin).Seconds()}, nil
}

// census counts records and the events in them.
type census struct {
	sent      int       // records in the topic before the second start
	restarted time.Time // when the first one after those came
	seen      []bool    // by number of event
	records   int
	events    int
	last      time.Time // when the last one came
}

func (c *census) add(n int, arrived time.Time) {
	c.records, c.last = c.records+1, arrived
	if c.records == c.sent+1 {
		c.restarted = arrived
	}
	if n < len(c.seen) && !c.seen[n] {
		c.seen[n] = true
		c.events++
	}
}

// complete reports whether everything has come and nothing more does, or nothing has come for long.
func (c *census) complete() bool {
	since := time.Since(c.last)
	return c.events == len(c.seen) && since > quiet || since > stuck
}
