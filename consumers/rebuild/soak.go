package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/internal/crashpoint"
)

// soak has the former generation follow, so that a rollback is no step back in time, until it is retired.
func (j *Job) soak(ctx context.Context) error {
	if b := j.rec.Rebuild; !b.RollingBack && !time.Now().Before(b.KeepUntil) {
		return j.move(ctx, func(_ *Record, b *Rebuild) { b.State, b.Reason = Retiring, "" })
	}
	w, err := j.ensure(ctx, j.rec.Rebuild.Old)
	if err != nil {
		return err
	}
	w.feed.pace.free()
	crashpoint.Reach(pointFollowed)
	if j.rec.Rebuild.RollingBack {
		return j.rollBack(ctx, w)
	}
	if j.rec.Rebuild.Reason != "" {
		return j.move(ctx, func(_ *Record, b *Rebuild) { b.Reason = "" })
	}
	return nil
}

// retire removes what does not serve, and ends the rebuild.
func (j *Job) retire(ctx context.Context) error {
	j.drop()
	b := j.rec.Rebuild
	if !b.SwappedAt.IsZero() && time.Since(b.KeepUntil) < j.cfg.Grace {
		return nil // other processes may be about to leave it
	}
	n := b.doomed()
	if n != j.rec.Serving && j.rec.Generations[n] != nil {
		if err := j.remove(ctx, n); err != nil {
			return err
		}
	}
	return j.move(ctx, func(rec *Record, b *Rebuild) {
		delete(rec.Generations, n)
		b.Outcome, b.Reason, b.EndedAt = cmp.Or(b.Outcome, "done"), "", time.Now().UTC()
		rec.Last, rec.Rebuild = b, nil
	})
}

func (j *Job) remove(ctx context.Context, n int) (err error) {
	s, err := j.open(ctx, n, true)
	if err != nil && consumers.Classify(err) == consumers.Systemic {
		j.log.Warn("a generation that cannot be opened is removed without a look at it", "generation", n, "err", err)
		if other := j.cfg.Host.Remove(ctx, n, j.rec.Generations[n]); other != nil {
			return errors.Join(err, other)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	g, ok := s.Sink().(fold.Generational)
	if !ok {
		return nil
	}
	crashpoint.Reach(pointRemove)
	if err := g.Remove(ctx); err != nil {
		return fmt.Errorf("remove generation %d: %w", n, err)
	}
	crashpoint.Reach(pointRemoved)
	if _, err := j.adm.DeleteGroup(ctx, Group(j.cfg.Sink, n)); err != nil {
		j.log.Debug("the group of a generation is not deleted; it expires by itself", "generation", n, "err", err)
	}
	return nil
}
