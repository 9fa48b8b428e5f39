package compare

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/millrace/millrace/consumers/fold"
)

// How many keys are loaded at once, and how often those that still move.
const (
	reloadKeys  = 500
	reloadPause = 100 * time.Millisecond
)

// reload compares keys that differ in stores that cannot be read at one moment: from both again, until their versions are equal or patience ends.
func (r *run) reload(ctx context.Context) error {
	left := slices.Sorted(maps.Keys(r.moved))
	clear(r.moved)
	if len(left) == 0 {
		return nil
	}
	until := time.Now().Add(r.Options.Patience)
	for {
		last := time.Now().After(until)
		var still []string
		for chunk := range slices.Chunk(left, reloadKeys) {
			more, err := r.again(ctx, chunk, last)
			if err != nil {
				return err
			}
			still = append(still, more...)
		}
		if left = still; len(left) == 0 {
			return nil
		}
		t := time.NewTimer(reloadPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// again loads keys, and returns those whose versions still differ; none if it is the last time.
func (r *run) again(ctx context.Context, keys []string, last bool) (still []string, err error) {
	old, err := r.LoadOld(ctx, r.plan.entity, keys)
	if err != nil {
		return nil, err
	}
	now, err := r.LoadNew(ctx, r.plan.entity, keys)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		a, b := in(old, key), in(now, key)
		kind := r.kind(key, a, b)
		switch {
		case kind == "":
			r.out.Moved++
			r.changesOf(key, a, b)
		case kind == Columns || last:
			r.out.Different++
			if len(r.out.Differences) < r.Options.Examples {
				r.show(key, kind, a, b)
			}
		default:
			still = append(still, key)
		}
	}
	return still, nil
}

func in(all map[string]fold.Stored, key string) *fold.Stored {
	if st, ok := all[key]; ok {
		return &st
	}
	return nil
}

// kind says how two states of a key differ; "" if they do not.
func (r *run) kind(key string, old, now *fold.Stored) Kind {
	switch {
	case (old == nil || now == nil) && (r.existence || exists(old)+exists(now) == 0):
		return ""
	case now == nil:
		return Missing
	case old == nil:
		return Unexpected
	case r.versions && old.Version != now.Version:
		return Version
	case r.side(false).digest(key, old) != r.side(true).digest(key, now):
		return Columns
	}
	return ""
}

// changesOf counts the columns that differ by declaration, with their values at hand.
func (r *run) changesOf(key string, old, now *fold.Stored) {
	if len(r.changed) == 0 {
		return
	}
	was, is := r.side(false).changes(old, nil), r.side(true).changes(now, nil)
	for i := range was {
		if (old == nil || now == nil) && i < len(r.plan.changed) || was[i] == is[i] {
			continue
		}
		if r.changed[i].States++; r.changed[i].States <= int64(r.Options.Examples) {
			r.example(key, i, old, now)
		}
	}
}
