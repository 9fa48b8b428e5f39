package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/test/bench/measure"
)

// insertLimit bounds the events of one window: far more than one Postgres commits.
const insertLimit = 20_000_000

// insertCase measures what the relay costs the application that it shares two cores with: how fast the same writers get on
// with and without it. Which of the two comes first changes from repetition to repetition.
func (r *rig) insertCase(ctx context.Context) error {
	if err := r.warmUp(ctx); err != nil {
		return err
	}
	s, err := r.newSite(ctx, "insert")
	if err != nil {
		return err
	}
	defer s.close(ctx)
	w, err := s.newWriters(ctx, 4, insertLimit, false)
	if err != nil {
		return err
	}
	// The first window is thrown away: connections, plans, the first pages of table and log.
	if _, err := w.run(ctx, 0, 2*time.Second); err != nil {
		return err
	}
	// So is one with the relay: the broker compiles for two minutes.
	if _, err := w.beside(ctx, r.opts.WarmupFor); err != nil {
		return err
	}
	for rep := range r.opts.Reps {
		r.say("insert cost, %d of %d", rep+1, r.opts.Reps)
		var with beside
		var without float64
		for i := range 2 {
			if (rep+i)%2 == 0 {
				without, err = w.alone(ctx, r.opts.InsertFor)
			} else {
				with, err = w.beside(ctx, r.opts.InsertFor)
			}
			if err != nil {
				return err
			}
		}
		c := r.report.in("insert cost")
		c.row("throughput with the relay, part of without", "", with.rate/without, atLeast(0.9))
		c.row("inserts with the relay", "1/s", with.rate)
		c.row("inserts without", "1/s", without)
		c.row("behind when the writers stopped, in seconds of their work", "s", with.behind)
		c.row("relay CPU per million events", "s", with.cpu)
		c.row("broker CPU per million events", "s", with.broker)
		c.row("events in a Kafka transaction", "", with.slice)
		r.say("with %s/s, without %s/s: %.2f", thousands(int64(with.rate)), thousands(int64(without)), with.rate/without)
	}
	return nil
}

// alone is the writers' rate while no relay runs.
func (w *writers) alone(ctx context.Context, long time.Duration) (float64, error) {
	began := time.Now()
	n, err := w.run(ctx, 0, long)
	return perSecond(n, time.Since(began)), err
}

// beside is what the writers did while a relay followed them.
type beside struct {
	rate        float64 // events a second
	behind      float64 // what the relay had left in the end, in seconds of the writers' work
	cpu, broker float64 // CPU seconds per million events
	slice       float64 // events in a Kafka transaction
}

// beside lets them write while a relay follows them, which had nothing left to do before.
func (w *writers) beside(ctx context.Context, long time.Duration) (b beside, err error) {
	relay, err := w.site.startRelay()
	if err != nil {
		return b, err
	}
	defer relay.stop()
	if err := relay.caughtUp(ctx, w.written.Load()); err != nil {
		return b, err
	}
	before, err := relay.status(ctx)
	if err != nil {
		return b, err
	}
	kafka := w.site.rig.kafka.PID()
	written, used, broker := w.written.Load(), relay.cpu(), measure.CPU(kafka)
	if b.rate, err = w.alone(ctx, long); err != nil {
		return b, err
	}
	n := w.written.Load() - written
	b.cpu, b.broker = perMillion(relay.cpu()-used, n), perMillion(measure.CPU(kafka)-broker, n)
	after, err := relay.status(ctx)
	if err != nil {
		return b, err
	}
	b.behind, b.slice = float64(w.written.Load()-after.Seq)/b.rate, sliceOf(before, after)
	if err := relay.caughtUp(ctx, w.written.Load()); err != nil {
		return b, fmt.Errorf("after the writers: %w", err)
	}
	return b, nil
}
