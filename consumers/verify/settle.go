package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/fold"
)

// How many keys are loaded at once, and how often keys that move are looked at again.
const (
	settleKeys  = 500
	settlePause = 200 * time.Millisecond
)

// chase follows keys beyond the cut, in a sink that cannot be read at one moment: a state that is newer than the cut is compared with what the topic made of its key
// at that version.
type chase struct {
	*topicRun
	i    int // the projection
	keys map[string]*chased
	next map[int32]int64
}

// chased is what the topic makes of a key, from the cut on.
type chased struct {
	compare.Candidate
	base     *fold.Stored
	versions map[int64]*fold.Stored
	last     *fold.Stored
}

// settle tells keys that moved from those that differ.
func (t *topicRun) settle(ctx context.Context, i int, open []compare.Candidate) error {
	c := &chase{topicRun: t, i: i, keys: map[string]*chased{}, next: map[int32]int64{}}
	for _, one := range open {
		k := &chased{Candidate: one, base: one.Want, last: one.Want, versions: map[int64]*fold.Stored{}}
		if one.Want != nil {
			k.versions[one.Want.Version] = one.Want
		}
		c.keys[one.Key] = k
	}
	until := time.Now().Add(t.opts.Patience)
	for {
		last := time.Now().After(until)
		if err := c.follow(ctx); err != nil {
			return err
		}
		if err := c.look(ctx, last); err != nil || len(c.keys) == 0 {
			return err
		}
		t.tell(t.projections[i].Entity() + ": keys that move")
		pause := time.NewTimer(settlePause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// follow reads on in the topic to where it ends now.
func (c *chase) follow(ctx context.Context) error {
	ends, err := c.adm.ListCommittedOffsets(ctx, c.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("ask where %s ends: %w", c.topic, err)
	}
	involved := map[int32]bool{}
	for key := range c.keys {
		involved[compare.PartitionOf(key, c.spread)] = true
	}
	for partition := range c.spreadOf(c.topic) {
		tp := consumers.TopicPartition{Topic: c.topic, Partition: partition}
		end, ok := ends.Lookup(c.topic, partition)
		if !ok || c.spread > 1 && !involved[partition] {
			continue
		}
		from := max(c.next[partition], c.at[tp])
		if err := consumers.ReadPartition(ctx, c.cfg.Kafka, tp, from, end.Offset, func(rec *kgo.Record) error { return c.event(ctx, rec) }); err != nil {
			return err
		}
		c.next[partition] = max(from, end.Offset)
	}
	return nil
}

func (c *chase) event(ctx context.Context, rec *kgo.Record) error {
	k := c.keys[string(rec.Key)]
	if k == nil {
		return nil
	}
	ev, err := c.dec.Decode(ctx, rec)
	if err != nil {
		return err
	}
	var st fold.Stored
	if k.last != nil {
		st = *k.last
	}
	if ev.Err != nil {
		return nil
	}
	if known, err := fold.Apply(c.projections[c.i], &st, k.last != nil, &ev); err == nil && known {
		k.last = &st
		k.versions[st.Version] = &st
	}
	return nil
}

// look loads the keys, and settles those that can be.
func (c *chase) look(ctx context.Context, last bool) error {
	entity := c.projections[c.i].Entity()
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(c.keys)), settleKeys) {
		held, err := fold.Shown(ctx, c.cfg.Store, entity, keys)
		if err != nil {
			return err
		}
		for _, key := range keys {
			var got *fold.Stored
			if st, ok := held[key]; ok {
				got = &st
			}
			if c.judge(c.keys[key], got, last) {
				delete(c.keys, key)
			}
		}
	}
	return nil
}

// judge says whether a key is settled.
func (c *chase) judge(k *chased, got *fold.Stored, last bool) bool {
	a := c.audits[c.i]
	if got == nil {
		if k.base == nil || !k.base.Exists {
			a.Moved()
		} else {
			a.Differs(k.Key, compare.Missing, k.last, nil)
		}
		return true
	}
	want, known := k.versions[got.Version]
	switch {
	case known && a.Kind(k.Key, want, got) == "":
		a.Moved()
	case known:
		a.Differs(k.Key, compare.Columns, want, got)
	case !last && (k.last == nil || got.Version > k.last.Version):
		return false // the topic was read to its end a moment ago
	case k.last == nil:
		a.Differs(k.Key, compare.Unexpected, nil, got)
	default:
		a.Differs(k.Key, compare.Version, k.last, got)
	}
	return true
}
