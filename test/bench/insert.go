package bench

import (
	"context"
	"fmt"
	"time"
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
	for rep := range r.opts.Reps {
		r.say("insert cost, %d of %d", rep+1, r.opts.Reps)
		var with, without, behind float64
		for i := range 2 {
			if (rep+i)%2 == 0 {
				without, err = w.alone(ctx)
			} else {
				with, behind, err = w.beside(ctx)
			}
			if err != nil {
				return err
			}
		}
		c := r.report.in("insert cost")
		c.row("throughput with the relay, part of without", "", with/without, atLeast(0.9))
		c.row("inserts with the relay", "1/s", with)
		c.row("inserts without", "1/s", without)
		c.row("behind when the writers stopped, in seconds of their work", "s", behind)
		r.say("with %s/s, without %s/s: %.2f", thousands(int64(with)), thousands(int64(without)), with/without)
	}
	return nil
}

// alone is the writers' rate while no relay runs.
func (w *writers) alone(ctx context.Context) (float64, error) {
	began := time.Now()
	n, err := w.run(ctx, 0, w.site.rig.opts.InsertFor)
	return perSecond(n, time.Since(began)), err
}

// beside is the writers' rate while a relay follows them, which had nothing left to do before. behind is how much work it had
// left in the end, in seconds of the writers'.
func (w *writers) beside(ctx context.Context) (rate, behind float64, err error) {
	relay, err := w.site.startRelay()
	if err != nil {
		return 0, 0, err
	}
	defer relay.stop()
	if err := relay.caughtUp(ctx, w.written.Load()); err != nil {
		return 0, 0, err
	}
	if rate, err = w.alone(ctx); err != nil {
		return 0, 0, err
	}
	s, err := relay.status(ctx)
	if err != nil {
		return 0, 0, err
	}
	behind = float64(w.written.Load()-s.Seq) / rate
	if err := relay.caughtUp(ctx, w.written.Load()); err != nil {
		return 0, 0, fmt.Errorf("after the writers: %w", err)
	}
	return rate, behind, nil
}
