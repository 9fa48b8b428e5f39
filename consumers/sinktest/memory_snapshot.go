package sinktest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

var (
	_ fold.Snapshotter = (*Memory)(nil)
	_ fold.EventKeeper = (*Memory)(nil)
)

// memorySnapshot is a copy of the states, or, where the server is inexact, of the positions alone.
type memorySnapshot struct {
	m         *Memory
	exact     bool
	positions map[consumers.TopicPartition]int64
	states    map[string][]keyed
}

type keyed struct {
	key string
	fold.Stored
}

// Snapshot implements fold.Snapshotter.
func (m *Memory) Snapshot(ctx context.Context) (fold.Snapshot, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.store.gone()); err != nil {
		return nil, err
	}
	s := &memorySnapshot{m: m, positions: m.store.positions(), exact: !m.store.server.Inexact}
	if s.exact {
		s.states = map[string][]keyed{}
		for entity := range m.store.states {
			s.states[entity] = m.store.all(entity)
		}
	}
	return s, nil
}

// all copies the states of an entity, doubled ones as often as they are there. mu is held.
func (st *memoryStore) all(entity string) []keyed {
	var out []keyed
	for key, s := range st.states[entity] {
		out = append(out, keyed{key, copyStored(s)})
	}
	for key, more := range st.doubles[entity] {
		for _, s := range more {
			out = append(out, keyed{key, copyStored(s)})
		}
	}
	return out
}

// Positions implements fold.Snapshot.
func (s *memorySnapshot) Positions() map[consumers.TopicPartition]int64 {
	return maps.Clone(s.positions)
}

// Exact implements fold.Snapshot.
func (s *memorySnapshot) Exact() bool { return s.exact }

// States implements fold.Snapshot.
func (s *memorySnapshot) States(ctx context.Context, entity string, yield func(key string, s fold.Stored) error) error {
	states := s.states[entity]
	if _, ok := s.m.store.columns[entity]; !ok {
		return consumers.AsSystemic(fmt.Errorf("snapshot: no entity %q", entity))
	}
	if !s.exact {
		s.m.store.mu.Lock()
		states = s.m.store.all(entity)
		s.m.store.mu.Unlock()
	}
	for _, one := range states {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := yield(one.key, copyStored(one.Stored)); err != nil {
			return err
		}
	}
	return nil
}

// Close implements fold.Snapshot.
func (*memorySnapshot) Close() error { return nil }

// eventsOf returns the events of a partition in order of offset. mu is held.
func (st *memoryStore) eventsOf(tp consumers.TopicPartition) []consumers.Event {
	var out []consumers.Event
	for _, ev := range st.events {
		if ev.TopicPartition == tp {
			out = append(out, ev)
		}
	}
	slices.SortStableFunc(out, func(a, b consumers.Event) int { return cmp.Compare(a.Offset, b.Offset) })
	return out
}

// Records implements fold.EventKeeper.
func (m *Memory) Records(ctx context.Context, tp consumers.TopicPartition, from, until int64, yield func(*kgo.Record) error) error {
	m.store.mu.Lock()
	events := m.store.eventsOf(tp)
	m.store.mu.Unlock()
	for i := range events {
		ev := &events[i]
		if ev.Offset < from || ev.Offset >= until {
			continue
		}
		if ev.Value == nil {
			return fmt.Errorf("%s/%d at %d: %w", tp.Topic, tp.Partition, ev.Offset, fold.ErrNoPayload)
		}
		r := &kgo.Record{Topic: tp.Topic, Partition: tp.Partition, Offset: ev.Offset, Key: []byte(ev.Key), Value: slices.Clone(ev.Value),
			Headers: slices.Clone(ev.RecordHeaders()), Timestamp: ev.Time.Truncate(time.Millisecond)}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

// Kept implements fold.EventKeeper.
func (m *Memory) Kept(context.Context) (map[consumers.TopicPartition]fold.Kept, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	out, seen := map[consumers.TopicPartition]fold.Kept{}, map[consumers.TopicPartition]map[int64]bool{}
	for i := range m.store.events {
		ev := &m.store.events[i]
		k, ok := out[ev.TopicPartition]
		if !ok {
			k.First, k.Last, k.Oldest = ev.Offset, ev.Offset, ev.Time
			seen[ev.TopicPartition] = map[int64]bool{}
		}
		k.First, k.Last = min(k.First, ev.Offset), max(k.Last, ev.Offset)
		if ev.Time.Before(k.Oldest) {
			k.Oldest = ev.Time
		}
		seen[ev.TopicPartition][ev.Offset] = true
		k.Events++
		k.Offsets = int64(len(seen[ev.TopicPartition]))
		k.Bytes += int64(len(ev.Value))
		out[ev.TopicPartition] = k
	}
	return out, nil
}

// Put stores a state as nobody should who is not the sink: for tests of what finds that.
func (m *Memory) Put(entity, key string, s fold.Stored) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	m.store.states[entity][key] = copyStored(s)
}

// Drop deletes a state without a trace.
func (m *Memory) Drop(entity, key string) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	delete(m.store.states[entity], key)
}

// Double has a state there once more. It says false if there is none of that key.
func (m *Memory) Double(entity, key string) bool {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	s, ok := m.store.states[entity][key]
	if ok {
		m.store.doubles[entity][key] = append(m.store.doubles[entity][key], copyStored(s))
	}
	return ok
}

// DoubleEvent keeps an event once more. It says false if there is none at that offset.
func (m *Memory) DoubleEvent(tp consumers.TopicPartition, offset int64) bool {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	for _, ev := range m.store.events {
		if ev.TopicPartition == tp && ev.Offset == offset {
			m.store.events = append(m.store.events, ev)
			return true
		}
	}
	return false
}
