package sinktest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

var _ fold.Sink = (*Memory)(nil)

// Memory is a sink in memory: the shortest backend that keeps the contract, for reading and for tests of what stands above sinks.
// It is one generation of a MemoryServer.
type Memory struct {
	store *memoryStore
	crash string // the point at which the next Commit, Serve or Remove stops
}

// memoryStore is what outlives a sink: one generation.
type memoryStore struct {
	server     *MemoryServer
	generation int
	columns    map[string][]projection.Column
	digests    map[string]string

	mu     *sync.Mutex // the server's; guards the following
	owned  map[consumers.TopicPartition]*memoryPartition
	states map[string]map[string]fold.Stored
	// doubles are states that are there once more, by entity and key.
	doubles map[string]map[string][]fold.Stored
	events  []consumers.Event
	removed bool
}

type memoryPartition struct {
	epoch       int64
	next        int64
	quarantined map[string]int64
}

// NewMemory returns an empty sink for the entities of the projections: the first generation of a server of its own.
func NewMemory(projections ...fold.Projection) *Memory {
	m, err := NewMemoryServer().Open(1, projections...)
	if err != nil {
		panic("sinktest: " + err.Error()) // a new server has no generation that could be another
	}
	return m
}

// Claim implements fold.Sink.
func (m *Memory) Claim(_ context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if err := m.store.gone(); err != nil {
		return fold.Claim{}, err
	}
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
	if err := m.store.gone(); err != nil {
		return nil, err
	}
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
	if err := cmp.Or(ctx.Err(), m.store.gone()); err != nil {
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
			m.store.put(entity, ch, c.Replace)
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

// put stores a state. One that replaces goes to where there is none of a greater version, and leaves one of each key.
func (st *memoryStore) put(entity string, ch fold.Change, replace bool) {
	next := ch.Stored
	if replace {
		for _, s := range append(st.doubles[entity][ch.Key], st.states[entity][ch.Key]) {
			if s.Version > next.Version {
				next = s
			}
		}
		delete(st.doubles[entity], ch.Key)
	}
	st.states[entity][ch.Key] = copyStored(next)
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
	return m.store.positions(), m.store.gone()
}

// positions are those of partitions that were ever committed. mu is held.
func (st *memoryStore) positions() map[consumers.TopicPartition]int64 {
	all := map[consumers.TopicPartition]int64{}
	for tp, p := range st.owned {
		if p.next != -1 {
			all[tp] = p.next
		}
	}
	return all
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
