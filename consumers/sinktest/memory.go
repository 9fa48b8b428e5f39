package sinktest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

var (
	_ fold.Sink   = (*Memory)(nil)
	_ Backend     = (*MemoryBackend)(nil)
	_ Crasher     = (*MemoryBackend)(nil)
	_ EventKeeper = (*MemoryBackend)(nil)
)

// Memory is a sink in memory: the shortest backend that keeps the contract, for reading and for tests of what stands above sinks.
type Memory struct {
	store *memoryStore
	crash string // the point at which the next Commit stops
}

// memoryStore is what outlives a sink.
type memoryStore struct {
	columns map[string][]projection.Column

	mu     sync.Mutex // guards the following
	owned  map[consumers.TopicPartition]*memoryPartition
	states map[string]map[string]fold.Stored
	events []consumers.Event
}

type memoryPartition struct {
	epoch       int64
	next        int64
	quarantined map[string]int64
}

// NewMemory returns an empty sink for the entities of the projections.
func NewMemory(projections ...fold.Projection) *Memory {
	st := &memoryStore{
		columns: map[string][]projection.Column{}, owned: map[consumers.TopicPartition]*memoryPartition{},
		states: map[string]map[string]fold.Stored{},
	}
	for _, p := range projections {
		st.columns[p.Entity()], st.states[p.Entity()] = p.Columns(), map[string]fold.Stored{}
	}
	return &Memory{store: st}
}

// Claim implements fold.Sink.
func (m *Memory) Claim(_ context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	p := m.store.owned[tp]
	if p == nil {
		p = &memoryPartition{next: -1, quarantined: map[string]int64{}}
		m.store.owned[tp] = p
	}
	p.epoch++
	return fold.Claim{Epoch: p.epoch, Next: p.next, Quarantined: maps.Clone(p.quarantined)}, nil
}

// Load implements fold.Sink.
func (m *Memory) Load(_ context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	states, ok := m.store.states[entity]
	if !ok {
		return nil, consumers.AsSystemic(fmt.Errorf("load: no entity %q", entity))
	}
	found := make(map[string]fold.Stored, len(keys))
	for _, k := range keys {
		if s, ok := states[k]; ok {
			found[k] = copyStored(s)
		}
	}
	return found, nil
}

// errCrashed is what a Commit returns that stopped at a crash point.
var errCrashed = errors.New("crashed on purpose")

// Commit implements fold.Sink.
func (m *Memory) Commit(ctx context.Context, c fold.Commit) error {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	p := m.store.owned[c.TopicPartition]
	// Promise 4: epoch and position are compared in the step that writes.
	if p == nil || p.epoch != c.Epoch {
		return fmt.Errorf("commit %v at epoch %d: %w", c.TopicPartition, c.Epoch, consumers.ErrFenced)
	}
	if p.next != -1 && p.next != c.From {
		return fmt.Errorf("commit %v from %d, stored is %d: %w", c.TopicPartition, c.From, p.next, consumers.ErrPosition)
	}
	if err := m.store.check(c); err != nil {
		return err
	}
	if m.crash == "before" {
		return errCrashed
	}
	for entity, changes := range c.Changes {
		for _, ch := range changes {
			m.store.states[entity][ch.Key] = copyStored(ch.Stored)
		}
	}
	m.store.events = append(m.store.events, c.Events...)
	p.mark(c)
	p.next = c.Next
	if m.crash == "after" {
		return errCrashed
	}
	return nil
}

// mark lifts and sets quarantine marks. A key that keeps its mark keeps the offset.
func (p *memoryPartition) mark(c fold.Commit) {
	for _, key := range c.Lifted {
		delete(p.quarantined, key)
	}
	for key, offset := range c.Quarantine {
		if _, marked := p.quarantined[key]; !marked {
			p.quarantined[key] = offset
		}
	}
}

// check refuses what cannot be stored, before anything is.
func (st *memoryStore) check(c fold.Commit) error {
	for entity, changes := range c.Changes {
		columns, ok := st.columns[entity]
		if !ok {
			return consumers.AsSystemic(fmt.Errorf("commit: no entity %q", entity))
		}
		for _, ch := range changes {
			if !ch.Exists {
				continue
			}
			if _, err := projection.EncodeState(columns, ch.Values); err != nil {
				return fmt.Errorf("commit %s %q: %w", entity, ch.Key, err)
			}
		}
	}
	return nil
}

// Positions implements fold.Sink.
func (m *Memory) Positions(context.Context) (map[consumers.TopicPartition]int64, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	all := map[consumers.TopicPartition]int64{}
	for tp, p := range m.store.owned {
		if p.next != -1 {
			all[tp] = p.next
		}
	}
	return all, nil
}

// Close implements fold.Sink.
func (m *Memory) Close() error { return nil }

// States returns the states of an entity that exist, by key.
func (m *Memory) States(entity string) map[string]fold.Stored {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	all := map[string]fold.Stored{}
	for k, s := range m.store.states[entity] {
		if s.Exists {
			all[k] = copyStored(s)
		}
	}
	return all
}

// Events returns the events kept of a topic, by partition and offset.
func (m *Memory) Events(topic string) []consumers.Event {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	var all []consumers.Event
	for _, e := range m.store.events {
		if e.Topic == topic {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b consumers.Event) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return all
}

// copyStored keeps callers from sharing the slice of values. The values themselves are never written to.
func copyStored(s fold.Stored) fold.Stored {
	s.Values = slices.Clone(s.Values)
	return s
}

// MemoryBackend is Memory under test.
type MemoryBackend struct {
	store *memoryStore
	last  *Memory
}

// NewMemoryBackend returns a backend for Run.
func NewMemoryBackend() *MemoryBackend {
	return &MemoryBackend{store: NewMemory(Projections()...).store}
}

// Open implements Backend.
func (b *MemoryBackend) Open(testing.TB) fold.Sink {
	b.last = &Memory{store: b.store}
	return b.last
}

// Dump implements Backend.
func (b *MemoryBackend) Dump(_ testing.TB, entity string) map[string]fold.Stored {
	return b.last.States(entity)
}

// DumpEvents implements EventKeeper.
func (b *MemoryBackend) DumpEvents(_ testing.TB, topic string) []consumers.Event {
	return b.last.Events(topic)
}

// CrashPoints implements Crasher. What stands between is one step in memory.
func (b *MemoryBackend) CrashPoints() []string { return []string{"before", "after"} }

// CrashAt implements Crasher.
func (b *MemoryBackend) CrashAt(_ testing.TB, point string) { b.last.crash = point }
