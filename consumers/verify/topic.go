package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/fold"
)

// topicRun compares the entities of one topic.
type topicRun struct {
	*run
	topic       string
	projections []fold.Projection // all that follow the topic
	audits      []*compare.Audit  // nil for one that is not wanted
	spread      int32             // the partitions that keys are hashed over; 1: they are taken as a whole
	whole       []states          // by projection, in that case
	lettered    []map[string][]fold.Stored
	variants    map[string]*variants
	strange     int64 // events that cannot be applied, and no dead letter tells of them
	bronze      []Bronze
}

// states are those of one entity.
type states = map[string]*fold.Stored

// variants are the states of a key with settled letters, by projection: with those letters that can be applied, and without any.
type variants struct{ with, without []*fold.Stored }

// topic compares the entities and events of a topic.
func (r *run) topic(ctx context.Context, topic string) error {
	before := r.progress
	t, err := r.attempt(ctx, topic, r.spreadOf(topic))
	if errors.Is(err, compare.ErrPartition) {
		r.note("%s: its keys are not spread over partitions as Kafka's own clients spread them, so it was folded as a whole", topic)
		r.progress = before
		t, err = r.attempt(ctx, topic, 1)
	}
	if err != nil || t == nil {
		return err
	}
	for i, p := range t.projections {
		if a := t.audits[i]; a != nil {
			r.out.Entities[p.Entity()] = a.Result()
			if a.Capped() {
				r.note("%s: so many keys may differ that not all of them were looked at", p.Entity())
			}
		}
	}
	if t.strange > 0 {
		r.note("%s: %d events cannot be applied by the present declarations, and no dead letter tells of them: has a declaration changed since?", topic, t.strange)
	}
	r.out.Bronze = append(r.out.Bronze, t.bronze...)
	return nil
}

// spreadOf is the number of partitions of a topic.
func (r *run) spreadOf(topic string) int32 {
	n := int32(1)
	for tp := range r.at {
		if tp.Topic == topic {
			n = max(n, tp.Partition+1, r.counts[topic])
		}
	}
	return n
}

func (r *run) attempt(ctx context.Context, topic string, spread int32) (*topicRun, error) {
	t := &topicRun{run: r, topic: topic, spread: spread, variants: map[string]*variants{}}
	wanted := false
	for _, p := range r.cfg.Projections {
		if p.Topic() != topic {
			continue
		}
		t.projections = append(t.projections, p)
		var a *compare.Audit
		if r.wanted(p.Entity()) {
			a = compare.NewAudit(p, spread, !r.snap.Exact(), compare.Options{Examples: r.opts.Examples})
			wanted = true
		}
		t.audits = append(t.audits, a)
		t.lettered = append(t.lettered, map[string][]fold.Stored{})
		t.whole = append(t.whole, states{})
	}
	if !wanted && !r.comparesEvents() {
		return nil, nil
	}
	if err := t.held(ctx); err != nil {
		return nil, err
	}
	if err := t.fold(ctx); err != nil {
		return nil, err
	}
	return t, t.pair(ctx)
}

// held sums what the sink holds.
func (t *topicRun) held(ctx context.Context) error {
	for i := range t.projections {
		if t.audits[i] == nil {
			continue
		}
		err := t.states(ctx, i, func(key string, st *fold.Stored) {
			if t.letters.has(t.topic, key) {
				t.lettered[i][key] = append(t.lettered[i][key], *st)
				return
			}
			t.audits[i].Holds(key, st)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// states gives the sink's states of an entity that are looked at to yield.
func (t *topicRun) states(ctx context.Context, i int, yield func(key string, st *fold.Stored)) error {
	entity := t.projections[i].Entity()
	return t.snap.States(ctx, entity, func(key string, st fold.Stored) error {
		if t.progress.States++; t.progress.States%1000 == 0 {
			t.tell(entity + " in the sink")
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if t.sampled(key) {
			yield(key, &st)
		}
		return nil
	})
}

// fold folds the partitions, and compares the sums.
func (t *topicRun) fold(ctx context.Context) error {
	for partition := range t.spreadOf(t.topic) {
		made, err := t.partition(ctx, partition)
		var forgotten *fold.Forgotten
		switch {
		case errors.As(err, &forgotten):
			t.note("%s: it is not compared", forgotten.Error())
			if t.leave(partition); t.spread == 1 {
				return nil
			}
			continue
		case err != nil:
			return err
		case t.spread == 1:
			for i := range made {
				maps.Copy(t.whole[i], made[i])
			}
			continue
		}
		if err := t.should(partition, made); err != nil {
			return err
		}
	}
	if t.spread == 1 {
		return t.should(0, t.whole)
	}
	return nil
}

func (t *topicRun) should(partition int32, made []states) error {
	for i, a := range t.audits {
		if a == nil {
			continue
		}
		if err := a.Should(partition, maps.All(made[i])); err != nil {
			return err
		}
	}
	return nil
}

// leave leaves out a partition, or all where they cannot be told apart.
func (t *topicRun) leave(partition int32) {
	for i, a := range t.audits {
		if a != nil && t.spread > 1 {
			a.Leave(partition)
		} else if t.spread == 1 {
			t.audits[i] = nil
		}
	}
	t.left = append(t.left, consumers.TopicPartition{Topic: t.topic, Partition: partition})
}

// partition folds one partition up to the cut.
func (t *topicRun) partition(ctx context.Context, partition int32) ([]states, error) {
	tp := consumers.TopicPartition{Topic: t.topic, Partition: partition}
	made := make([]states, len(t.projections))
	for i := range made {
		made[i] = states{}
	}
	at, ok := t.at[tp]
	if !ok {
		return made, nil
	}
	until, seen := at, newOffsets(t.starts[tp])
	if kept, ok := t.kept[tp]; ok && t.comparesEvents() {
		until = max(until, kept.Last+1)
	}
	phase := fmt.Sprintf("%s/%d", tp.Topic, tp.Partition)
	take := func(rec *kgo.Record) error {
		if rec.Offset >= t.starts[tp] {
			seen.add(rec.Offset)
			t.progress.Done++
		}
		if rec.Offset >= at {
			return nil
		}
		if t.out.Events++; t.out.Events%1000 == 0 {
			t.tell(phase)
		}
		return t.event(ctx, rec, made)
	}
	var err error
	start := t.starts[tp]
	if len(t.projections) == 0 || start == 0 {
		err = consumers.ReadPartition(ctx, t.cfg.Kafka, tp, start, until, take)
	} else {
		var bronze bool
		if bronze, err = fold.History(ctx, t.cfg.Kafka, t.cfg.Store, tp, start, until, take); bronze {
			t.note("%s: events below offset %d are not in the log any more and were taken from the sink's own bronze", phase, start)
		}
	}
	if err != nil {
		return nil, err
	}
	return made, t.events(ctx, tp, at, seen)
}

// event applies one record.
func (t *topicRun) event(ctx context.Context, rec *kgo.Record, made []states) error {
	key := string(rec.Key)
	tp := consumers.TopicPartition{Topic: rec.Topic, Partition: rec.Partition}
	if len(t.projections) == 0 || !t.sampled(key) || t.letters.pending[tp][rec.Offset] {
		return nil
	}
	ev, err := t.dec.Decode(ctx, rec)
	if err != nil {
		return fmt.Errorf("decode %s/%d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	if !ev.HasKey() {
		return nil
	}
	settled := t.letters.settled[tp][rec.Offset]
	if t.letters.has(t.topic, key) {
		v := t.variant(key)
		if !settled {
			t.apply(v.without, &ev)
		}
		t.apply(v.with, &ev)
		return nil
	}
	now := make([]*fold.Stored, len(t.projections))
	for i := range now {
		now[i] = made[i][key]
	}
	if !t.apply(now, &ev) {
		t.strange++
		return nil
	}
	for i, st := range now {
		if st != nil {
			made[i][key] = st
		}
	}
	return nil
}

func (t *topicRun) variant(key string) *variants {
	v := t.variants[key]
	if v == nil {
		v = &variants{make([]*fold.Stored, len(t.projections)), make([]*fold.Stored, len(t.projections))}
		t.variants[key] = v
	}
	return v
}

// apply applies an event to the states of its key, by projection, if every projection can. A state that is nil is not known.
func (t *topicRun) apply(now []*fold.Stored, ev *consumers.Event) bool {
	if ev.Err != nil {
		return false
	}
	next := make([]*fold.Stored, len(now))
	for i, p := range t.projections {
		var st fold.Stored
		if now[i] != nil {
			st = *now[i]
		}
		known, err := fold.Apply(p, &st, now[i] != nil, ev)
		if err != nil {
			return false
		}
		if known {
			next[i] = &st
		}
	}
	copy(now, next)
	return true
}

// pair reads the sink once more where sums differ, and settles what may have moved.
func (t *topicRun) pair(ctx context.Context) error {
	for i, a := range t.audits {
		if a == nil {
			continue
		}
		if a.Again() {
			err := t.states(ctx, i, func(key string, st *fold.Stored) {
				if !t.letters.has(t.topic, key) {
					a.HoldsAgain(key, st)
				}
			})
			if err != nil {
				return err
			}
		}
		if open := append(a.Finish(), t.compareLettered(i)...); len(open) > 0 {
			if err := t.settle(ctx, i, open); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareLettered compares keys with letters: each may be with those that were settled, or without. It returns those that may have moved on.
func (t *topicRun) compareLettered(i int) (open []compare.Candidate) {
	a := t.audits[i]
	for key, letters := range t.letters.keys[t.topic] {
		if !t.sampled(key) || t.isLeft(key) {
			continue
		}
		v, held := t.variant(key), t.lettered[i][key]
		if len(held) > 1 {
			a.Differs(key, compare.Doubled, v.with[i], &held[0])
			continue
		}
		var got *fold.Stored
		if len(held) == 1 {
			got = &held[0]
		}
		kind := a.Kind(key, v.with[i], got)
		if kind == "" || a.Kind(key, v.without[i], got) == "" {
			continue
		}
		want := v.with[i]
		if w := v.without[i]; w != nil && got != nil && w.Version == got.Version {
			want = w
		}
		if !t.snap.Exact() && letters.pending == 0 {
			open = append(open, compare.Candidate{Key: key, Kind: kind, Want: want})
			continue
		}
		a.Differs(key, kind, want, got)
	}
	return open
}

// isLeft says whether a key's partition is not compared.
func (t *topicRun) isLeft(key string) bool {
	for _, tp := range t.left {
		if tp.Topic == t.topic && tp.Partition == compare.PartitionOf(key, t.spread) {
			return true
		}
	}
	return false
}
