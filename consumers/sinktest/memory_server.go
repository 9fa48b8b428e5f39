package sinktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

var _ fold.Generational = (*Memory)(nil)

// MemoryServer holds the generations of a sink in memory. One of them serves: 1, until another one does.
type MemoryServer struct {
	// Inexact has snapshots show states that may be newer than their positions, as stores do that cannot read both together. It is set before the
	// first snapshot.
	Inexact bool
	// Blind has Serve move readers without a look at positions, as stores do whose readers ask the process. It is set before the first generation is opened.
	Blind bool

	mu          sync.Mutex // guards the following, and the generations
	generations map[int]*memoryStore
	serving     int
}

// NewMemoryServer returns a server without generations.
func NewMemoryServer() *MemoryServer {
	return &MemoryServer{generations: map[int]*memoryStore{}, serving: 1}
}

// ErrDeclared is what MemoryServer.Open returns for a generation that was made by other declarations.
var ErrDeclared = errors.New("the generation was made by other declarations")

// errRemoved is what a sink returns whose generation was removed.
var errRemoved = errors.New("the generation was removed")

// Open opens a generation with the declarations it was made by, or makes it. It returns ErrDeclared for others.
func (s *MemoryServer) Open(generation int, projections ...fold.Projection) (*Memory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.generations[generation]
	if st == nil {
		st = &memoryStore{
			server: s, generation: generation, mu: &s.mu, columns: map[string][]projection.Column{}, digests: map[string]string{},
			owned: map[consumers.TopicPartition]*memoryPartition{}, states: map[string]map[string]fold.Stored{}, doubles: map[string]map[string][]fold.Stored{},
		}
		for _, p := range projections {
			st.columns[p.Entity()], st.digests[p.Entity()] = p.Columns(), p.Digest()
			st.states[p.Entity()], st.doubles[p.Entity()] = map[string]fold.Stored{}, map[string][]fold.Stored{}
		}
		s.generations[generation] = st
	}
	for _, p := range projections {
		if st.digests[p.Entity()] != p.Digest() {
			return nil, consumers.AsSystemic(fmt.Errorf("open generation %d: entity %s: %w", generation, p.Entity(), ErrDeclared))
		}
	}
	return &Memory{store: st}, nil
}

// Serving returns the number of the generation that readers see.
func (s *MemoryServer) Serving() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving
}

// Generations returns the numbers of those that are there, in order.
func (s *MemoryServer) Generations() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []int
	for n := range s.generations {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// Read returns what readers see of an entity: the states that exist in the generation that serves, by key.
func (s *MemoryServer) Read(entity string) map[string]fold.Stored {
	s.mu.Lock()
	st := s.generations[s.serving]
	s.mu.Unlock()
	if st == nil {
		return nil
	}
	return (&Memory{store: st}).States(entity)
}

// gone says so if the generation was removed. mu is held.
func (st *memoryStore) gone() error {
	if st.removed {
		return consumers.AsSystemic(fmt.Errorf("generation %d: %w", st.generation, errRemoved))
	}
	return nil
}

// Serve implements fold.Generational.
//
// Promise 8: positions are compared in the step that swaps.
func (m *Memory) Serve(ctx context.Context) error {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	server := m.store.server
	if err := m.store.gone(); err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if now := server.generations[server.serving]; now != nil && !server.Blind {
		for tp, p := range now.owned {
			if mine := m.store.owned[tp]; p.next > 0 && (mine == nil || mine.next < p.next) {
				return fmt.Errorf("serve generation %d: %s/%d: %w", m.store.generation, tp.Topic, tp.Partition, fold.ErrBehind)
			}
		}
	}
	if m.crash == "before serving" {
		return errCrashed
	}
	server.serving = m.store.generation
	if m.crash == "after serving" {
		return errCrashed
	}
	return nil
}

// Remove implements fold.Generational.
func (m *Memory) Remove(context.Context) error {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	server := m.store.server
	if server.serving == m.store.generation {
		return fmt.Errorf("remove generation %d: %w", m.store.generation, fold.ErrServing)
	}
	clear(m.store.owned)
	if m.crash == "half removed" {
		return errCrashed
	}
	m.store.removed = true
	if server.generations[m.store.generation] == m.store {
		delete(server.generations, m.store.generation)
	}
	return nil
}
