package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/internal/crashpoint"
)

// cutOver lets the other generation serve. Each step can be repeated.
//
// Promise 8: readers are moved in one step, to a generation that has everything that they have seen.
func (j *Job) cutOver(ctx context.Context) error {
	b := j.rec.Rebuild
	w, err := j.ensure(ctx, b.target())
	if err != nil || !w.running || time.Since(j.tried) < j.cfg.Every {
		return err
	}
	w.feed.pace.free()
	w.feed.consumer.Release()
	w.store.Effects(true) // from the fence on they are nobody else's; what was before that has them twice
	trying, cancel := context.WithTimeoutCause(ctx, cutPatience, errCutOver)
	defer cancel()
	err = j.swap(trying, w)
	switch {
	case errors.Is(err, errUnsettled):
		return j.anew(nil)
	case err != nil:
		return j.giveUp(ctx, w, err)
	}
	return j.handOver(ctx, w)
}

// swap fences the one and lets the other serve.
func (j *Job) swap(ctx context.Context, w *work) error {
	if err := j.fence(ctx, w); err != nil {
		return err
	}
	// Nothing more can be decided where the generation served: what was, the new one has followed, or does now.
	if left, err := j.unsettled(ctx, w); left || err != nil {
		return cmp.Or(err, errUnsettled)
	}
	crashpoint.Reach(pointServe)
	// A leader that was frozen here wakes up with readers who may be elsewhere by now: what it writes first is refused.
	if err := j.term.tell(ctx, j.rec.Rebuild); err != nil {
		return err
	}
	if g, ok := w.store.Sink().(fold.Generational); ok {
		if err := j.serve(ctx, g); err != nil {
			return fmt.Errorf("let generation %d serve: %w", w.n, err)
		}
	}
	crashpoint.Reach(pointServed)
	return nil
}

// swapTries is how often a swap is tried before the generation that served goes on: nothing feeds it meanwhile.
const swapTries = 3

// giveUp tries a swap again, a few times; then readers are where they were, the generation that served goes on, and the other one follows until somebody says that it is to be tried again.
func (j *Job) giveUp(ctx context.Context, w *work, why error) error {
	if ctx.Err() != nil || errors.Is(why, ErrDeposed) || errors.Is(why, errUnsure) {
		return why
	}
	j.tried = time.Now()
	if j.swaps++; j.swaps < swapTries {
		if _, ok := w.store.Sink().(fold.Awaiter); ok && errors.Is(why, fold.ErrBehind) {
			return j.retreat(ctx, w, why)
		}
		return why
	}
	if err := j.serveOn(ctx, w); err != nil {
		return errors.Join(why, err)
	}
	j.swaps = 0
	j.log.Error("the swap is given up; what served serves on", "generation", j.rec.Serving, "err", why)
	return j.move(ctx, func(_ *Record, b *Rebuild) {
		b.Reason = "the swap was given up: " + why.Error()
		if b.RolledBack {
			b.RolledBack, b.State = false, Soaking
			return
		}
		b.State = Refused
		b.Reason = fmt.Sprintf("the swap was given up, and readers are where they were: when its reason has passed, have it tried again (millrace rebuild accept %s), or abort: %v", j.cfg.Sink, why)
	})
}

// serveOn has the generation go on that served before a swap, and lets go of the other one.
func (j *Job) serveOn(ctx context.Context, w *work) error {
	err := j.serving(ctx, func(s Store) error {
		if g, ok := s.Sink().(fold.Generational); ok {
			return g.Serve(ctx) // whether the other serves after what has failed is not known
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("let generation %d serve on: %w", j.rec.Serving, err)
	}
	w.store.Effects(false)
	j.drop()
	return nil
}

var errCutOver = errors.New("the generation that is to serve did not come up with the other in time")

// fence keeps everybody from feeding the generation that served, and waits until the other has all of it.
func (j *Job) fence(ctx context.Context, w *work) error {
	return j.serving(ctx, func(old Store) error {
		all, err := j.partitions(ctx, old)
		if err != nil {
			return err
		}
		for tp := range all {
			if _, err := old.Sink().Claim(ctx, tp); err != nil {
				return fmt.Errorf("fence %s/%d of generation %d: %w", tp.Topic, tp.Partition, j.rec.Serving, err)
			}
		}
		crashpoint.Reach(pointFenced)
		behind, err := lags(ctx, j.adm, old, j.cfg.Topics)
		if err != nil {
			return err
		}
		seen := seenBy(behind)
		for _, topic := range j.gone(w) {
			maps.DeleteFunc(seen, func(tp consumers.TopicPartition, _ int64) bool { return tp.Topic == topic })
		}
		return waitFor(ctx, w.store.Sink(), seen)
	})
}

// seenBy is how far readers of a generation may have seen that was fenced before it was asked how far it is behind: to the end of each topic. A store without transactions writes states and then its
// position; of a batch that was cut off it shows the states. Whoever wrote them had looked at the fence before, so that they come from before the end.
func seenBy(behind []consumers.Lag) map[consumers.TopicPartition]int64 {
	seen := map[consumers.TopicPartition]int64{}
	for _, l := range behind {
		seen[l.TopicPartition] = max(l.Position, 0)
		if l.End > l.Start { // where there is nothing to read no position comes to the end
			seen[l.TopicPartition] = max(l.Position, l.End)
		}
	}
	return seen
}

// partitions are all that a generation may be fed from.
func (j *Job) partitions(ctx context.Context, s Store) (map[consumers.TopicPartition]int64, error) {
	all, err := s.Sink().Positions(ctx)
	if err != nil {
		return nil, err
	}
	all = maps.Clone(all)
	if all == nil {
		all = map[consumers.TopicPartition]int64{}
	}
	topics, err := j.adm.ListTopics(ctx, s.Feed().Consumer.Topics...)
	if err != nil {
		return nil, err
	}
	for _, t := range topics {
		if t.Err != nil && !errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("ask for the partitions of %s: %w", t.Topic, t.Err)
		}
		for _, p := range t.Partitions.Sorted() {
			if tp := (consumers.TopicPartition{Topic: t.Topic, Partition: p.Partition}); all[tp] == 0 {
				all[tp] = 0
			}
		}
	}
	return all, nil
}

// gone are topics of the generation that serves which the other does not follow.
func (j *Job) gone(w *work) (gone []string) {
	follows := map[string]bool{}
	for _, t := range w.feed.cfg.Consumer.Topics {
		follows[t] = true
	}
	for _, t := range j.cfg.Topics {
		if !follows[t] {
			gone = append(gone, t)
		}
	}
	return gone
}

// handOver records that the other generation serves, and lets the process have its store and feed.
func (j *Job) handOver(ctx context.Context, w *work) error {
	j.cfg.Host.Offer(w.n, w.store, w.feed)
	j.work, j.swaps = nil, 0
	err := j.move(ctx, func(rec *Record, b *Rebuild) {
		rec.Serving, b.Reason = w.n, ""
		if b.RolledBack {
			b.State, b.Outcome = Retiring, "rolled-back"
			b.KeepUntil = time.Now().UTC()
			return
		}
		b.State, b.SwappedAt = Soaking, time.Now().UTC()
		b.KeepUntil = b.SwappedAt.Add(b.Options.WithDefaults().KeepOld)
		if len(b.Recreated) > 0 { // nothing feeds the former generation
			b.State, b.KeepUntil = Retiring, b.SwappedAt
		}
	})
	if err != nil && j.cfg.Host.TakeBack(w.n) {
		j.work = w
	}
	return err
}
