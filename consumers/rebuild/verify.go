package rebuild

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/internal/crashpoint"
)

// How long the old generation is waited for at the cut, and the new one; and how often both are looked at meanwhile.
const (
	cutPatience = 2 * time.Minute
	cutLook     = 50 * time.Millisecond
)

// verify compares both generations at one cut, and goes on from what that shows.
func (j *Job) verify(ctx context.Context) error {
	w, err := j.ensure(ctx, j.rec.Rebuild.New)
	if err != nil {
		return err
	}
	if _, _, err := j.progress(ctx, w); err != nil || !w.running {
		return err
	}
	switch {
	case j.rec.Rebuild.Paused:
		j.task.stop()
		j.task, j.compared = nil, nil
		return nil
	case !w.running:
		return nil
	case j.task == nil:
		if left, err := j.unsettled(ctx, w); left || err != nil {
			return j.anew(err)
		}
		w.feed.pace.free()
		j.cutting.Store(true)
		rec, began := j.rec, time.Now()
		j.task = begin(ctx, func(ctx context.Context) (err error) {
			if j.compared = incomparable(); len(rec.Rebuild.Recreated) == 0 {
				j.compared, err = j.compare(ctx, w, rec)
			}
			j.cutting.Store(true) // it comes up for the swap
			if err == nil {
				err = w.store.Prepare(ctx)
			}
			j.took = time.Since(began)
			if err == nil && rec.Rebuild.swaps(j.compared) {
				err = j.awaitReaders(ctx, w)
			}
			return err
		})
		return nil
	case !j.task.ended():
		if j.cutting.Load() {
			w.feed.pace.free()
		} else {
			w.feed.pace.set(0, j.held)
		}
		return j.sayAwaited(ctx)
	}
	err = j.task.err
	j.task = nil
	if err != nil {
		return fmt.Errorf("compare the generations: %w", err)
	}
	if !j.compared.Equal {
		if left, err := j.unsettled(ctx, w); left || err != nil {
			return j.anew(err) // what differs may be what was decided since
		}
	}
	return j.judge(ctx, j.compared)
}

// swaps says whether what a comparison shows lets the new generation serve without a person's word.
func (b *Rebuild) swaps(c *compare.Comparison) bool {
	_, timed := b.Options.since() // history was left out on purpose: what that makes different is shown, and for a person to accept
	return c.Equal || (c.Acceptable || timed) && b.Options.AcceptChanges
}

// anew has the generation beside begun anew, so that it follows what was decided about dead letters (settle.go).
func (j *Job) anew(err error) error {
	if err == nil {
		j.drop()
	}
	return err
}

// judge goes on from a comparison.
func (j *Job) judge(ctx context.Context, c *compare.Comparison) error {
	crashpoint.Reach(pointCompared)
	swaps := j.rec.Rebuild.swaps(c)
	if _, timed := j.rec.Rebuild.Options.since(); timed {
		c.Acceptable = true
	}
	return j.move(ctx, func(rec *Record, b *Rebuild) {
		b.Comparison, b.Reason = c, ""
		rec.Generations[b.New].Compared = j.took
		switch {
		case swaps:
			b.State = CuttingOver
		case len(b.Recreated) > 0:
			b.State = Refused
			b.Reason = fmt.Sprintf("what serves is of a former topic (%s, made again since), so there is nothing to compare with and no way back: look whether the topic has everything, and accept",
				strings.Join(b.Recreated, ", "))
		case c.Acceptable:
			b.State, b.Reason = Refused, "the new generation differs, as was asked for: look at the differences, and accept them or abort"
		default:
			b.State, b.Reason = Refused, "the generations differ in what no declaration has changed: the keys are told in the comparison. Abort, repair what serves (millrace repair) or mend the cause, and begin again"
		}
	})
}

// wait lets a generation that was refused go on following, so that it can be accepted later.
func (j *Job) wait(ctx context.Context) error {
	w, err := j.ensure(ctx, j.rec.Rebuild.New)
	if err != nil {
		return err
	}
	_, _, err = j.progress(ctx, w)
	return err
}

// compare compares both generations.
//
// Promise 8: both stand at one cut. What serves is never stopped for it: the new generation is.
func (j *Job) compare(ctx context.Context, w *work, rec Record) (c *compare.Comparison, err error) {
	old, err := j.cfg.Host.Open(ctx, rec.Serving, rec.Generations[rec.Serving], false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	before, ok1 := old.Sink().(fold.Snapshotter)
	after, ok2 := w.store.Sink().(fold.Snapshotter)
	if !ok1 || !ok2 {
		return nil, consumers.AsSystemic(errIncomparable)
	}
	defer w.feed.consumer.Release()
	two, err := j.cut(ctx, w, before, after)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, two.Old.Close(), two.New.Close()) }()
	crashpoint.Reach(pointHeld)
	w.feed.consumer.Release()
	two.OldProjections, two.NewProjections = old.Projections(), w.store.Projections()
	two.LoadOld, two.LoadNew = shown(before), shown(after)
	j.cutting.Store(!two.Old.Exact() || !two.New.Exact()) // keys that moved are loaded again until they are equal, for which both must go on
	two.Old, two.New = heeding{two.Old, &j.heed}, heeding{two.New, &j.heed}
	return compare.Generations(ctx, two)
}

func shown(s fold.Sink) compare.Load {
	return func(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
		return fold.Shown(ctx, s, entity, keys)
	}
}

// cut takes a snapshot of each generation at the same positions.
func (j *Job) cut(ctx context.Context, w *work, before, after fold.Snapshotter) (two compare.Two, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cutPatience, errCut)
	defer cancel()
	if err := w.feed.consumer.Hold(ctx, nil); err != nil {
		return two, err
	}
	for {
		at, err := after.Positions(ctx)
		if err != nil {
			return two, err
		}
		if err := waitFor(ctx, before, at); err != nil {
			return two, fmt.Errorf("wait for what serves: %w", err)
		}
		if two.Old, err = before.Snapshot(ctx); err != nil {
			return two, err
		}
		cut := two.Old.Positions()
		if covers(cut, at) {
			if err = w.feed.consumer.Hold(ctx, cut); err == nil {
				err = waitFor(ctx, after, cut)
			}
			if err == nil {
				two.New, err = after.Snapshot(ctx)
			}
			if err == nil {
				return two, nil
			}
			return two, errors.Join(fmt.Errorf("bring the new generation to the cut: %w", err), two.Old.Close())
		}
		if err := two.Old.Close(); err != nil { // a snapshot of before the new generation was held
			return two, err
		}
	}
}

// Promise 8: what cannot be compared is not swapped.
var errIncomparable = errors.New("the sink's store does not show its states as of one moment, so nothing can prove that the new generation is complete")

var errCut = errors.New("the generations did not come to one cut in time")

// waitFor waits until a store has come to positions.
func waitFor(ctx context.Context, s fold.Sink, want map[consumers.TopicPartition]int64) error {
	for {
		at, err := s.Positions(ctx)
		if err != nil {
			return err
		}
		if covers(at, want) {
			return nil
		}
		if !wait(ctx, cutLook) {
			return context.Cause(ctx)
		}
	}
}

// covers says whether a is at or behind b in every partition.
func covers(a, b map[consumers.TopicPartition]int64) bool {
	for tp, at := range b {
		if a[tp] < at {
			return false
		}
	}
	return true
}
