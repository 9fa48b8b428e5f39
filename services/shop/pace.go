package shop

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// pace spreads work evenly at a rate. It is shared by all who work at it.
type pace struct {
	every time.Duration // between two units; zero means no bound

	mu   sync.Mutex // guards the following
	next time.Time  // when the next unit is due
}

func newPace(rate float64) *pace {
	if rate <= 0 {
		return &pace{}
	}
	return &pace{every: time.Duration(float64(time.Second) / rate)}
}

// wait takes n units and returns when they are due, or the context's error.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.every == 0 {
		return ctx.Err()
	}
	now := time.Now()
	p.mu.Lock()
	if behind := now.Add(-time.Second); p.next.Before(behind) {
		p.next = behind // what was missed is made up for one second, not longer
	}
	due := p.next
	p.next = p.next.Add(time.Duration(n) * p.every)
	p.mu.Unlock()
	return pause(ctx, due.Sub(now))
}

// pause lasts for d, or until the context ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// calendar is the shop's own time: a run of a minute fills days of business. It goes on with every transaction.
type calendar struct {
	start time.Time
	step  time.Duration
	ticks atomic.Int64
}

// callsPerEvent is about how often the time is asked for each event, with what is rolled back: the days end today and not after.
const callsPerEvent = 1.3

// unboundedRun is the number of transactions that fill the days of a run that has no end.
const unboundedRun = 100_000

func newCalendar(days int, events int64) *calendar {
	ticks := events
	if ticks == 0 {
		ticks = unboundedRun
	}
	span := time.Duration(days) * 24 * time.Hour
	start := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1).Add(-span)
	return &calendar{start: start, step: max(time.Duration(float64(span)/float64(ticks)/callsPerEvent), time.Microsecond)}
}

// now is later than it was at the last call. It has microseconds, as the database does.
func (c *calendar) now() time.Time {
	return c.start.Add(time.Duration(c.ticks.Add(1)) * c.step).Truncate(time.Microsecond)
}
