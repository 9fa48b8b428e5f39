package bench

import (
	"context"
	"errors"
	"time"
)

var errEnough = errors.New("enough")

// killCase kills the relay with SIGKILL in the middle of a drain, twice, and counts what the topic holds in the end.
func (r *rig) killCase(ctx context.Context) error {
	n := r.opts.Events
	for rep := range r.opts.Reps {
		r.say("kill %d of %d: %s events", rep+1, r.opts.Reps, thousands(n))
		if err := r.killOnce(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) killOnce(ctx context.Context, n int64) error {
	s, err := r.newSite(ctx, "kill")
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if err := s.load(ctx, 0, n, loadPerTx); err != nil {
		return err
	}
	rows := r.report.in("kill -9 while draining " + thousands(n))
	var before int64
	for _, killAt := range []int64{n / 3, 2 * n / 3, 0} {
		relay, err := s.startRelay()
		if err != nil {
			return err
		}
		defer relay.kill() // the last one, and any in case of an error
		var again time.Duration
		_, _, err = s.watch(ctx, relay, n, func(now instant) error {
			if again == 0 && now.total > before {
				again = now.at.Sub(relay.started)
			}
			if killAt > 0 && now.total >= killAt {
				before = now.total
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		relay.kill()
		if killAt != n/3 {
			rows.row("restart after a kill to next event", "s", again.Seconds())
		}
	}
	c, err := s.count(ctx, n, nil)
	if err != nil {
		return err
	}
	rows.row("events twice", "", float64(c.Duplicates), atMost(0))
	rows.row("events missing", "", float64(c.Missing), atMost(0))
	rows.row("events out of order or foreign", "", float64(c.Inversions+c.Strangers), atMost(0))
	r.say("%d twice, %d missing, %d out of order, %d foreign", c.Duplicates, c.Missing, c.Inversions, c.Strangers)
	return nil
}
