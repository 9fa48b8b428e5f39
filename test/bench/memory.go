package bench

import (
	"context"
	"time"

	"github.com/millrace/millrace/test/bench/measure"
)

// maxResident is what a relay may hold, in MiB.
const maxResident = 100

// memoryCase drains a large backlog, once: a peak needs no repetition.
func (r *rig) memoryCase(ctx context.Context) error {
	n := r.opts.MemoryEvents
	return r.drainOnce(ctx, "memory", n, func(_ *site, d drained) error {
		c := r.report.in("memory, drain " + thousands(n))
		c.row("peak resident", "MiB", d.memory.Peak, atMost(maxResident))
		c.row("peak resident without pages of files", "MiB", d.peakAnon)
		c.row("events a second", "1/s", d.rate)
		c.row("relay CPU per million events", "s", d.cpu)
		r.say("peak %.0f MiB resident", d.memory.Peak)
		return nil
	})
}

// oneTxCase commits all events in a single transaction while the relay runs.
func (r *rig) oneTxCase(ctx context.Context) error {
	n := r.opts.Events
	s, err := r.newSite(ctx, "onetx")
	if err != nil {
		return err
	}
	defer s.close(ctx)
	relay, err := s.startRelay()
	if err != nil {
		return err
	}
	defer relay.stop()
	if err := relay.leading(ctx); err != nil {
		return err
	}
	if err := s.load(ctx, 0, n, n); err != nil {
		return err
	}
	committed := time.Now()
	first, end, err := s.watch(ctx, relay, n, nil)
	if err != nil {
		return err
	}
	memory := measure.MemoryOf(relay.pid())
	counted, err := s.count(ctx, n, nil)
	if err != nil {
		return err
	}
	c := r.report.in("one transaction of " + thousands(n))
	c.row("events missing, twice or out of order", "", float64(counted.Missing+counted.Duplicates+counted.Inversions+counted.Strangers), atMost(0))
	c.row("relay memory, peak resident", "MiB", memory.Peak, atMost(maxResident))
	c.row("commit to first event", "s", first.at.Sub(committed).Seconds())
	c.row("commit to last event", "s", end.at.Sub(committed).Seconds())
	c.row("events a second, from the commit on", "1/s", perSecond(n, end.at.Sub(committed)))
	return nil
}
