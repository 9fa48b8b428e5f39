package sinktest

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

var (
	_ Backend      = (*MemoryBackend)(nil)
	_ Crasher      = (*MemoryBackend)(nil)
	_ EventKeeper  = (*MemoryBackend)(nil)
	_ Generations  = (*MemoryBackend)(nil)
	_ StatePlanter = (*MemoryBackend)(nil)
	_ EventPlanter = (*MemoryBackend)(nil)
)

// MemoryBackend is Memory under test.
type MemoryBackend struct {
	server *MemoryServer
	last   map[int]*Memory // by generation
}

// NewMemoryBackend returns a backend for Run.
func NewMemoryBackend() *MemoryBackend {
	return &MemoryBackend{server: NewMemoryServer(), last: map[int]*Memory{}}
}

// Open implements Backend.
func (b *MemoryBackend) Open(t testing.TB) fold.Sink { return b.OpenGeneration(t, 1) }

// Offers implements Backend.
func (*MemoryBackend) Offers() Offers {
	return Offers{Snapshots: true, Records: true, Generations: true, Replace: true}
}

// Dump implements Backend.
func (b *MemoryBackend) Dump(_ testing.TB, entity string) map[string]fold.Stored {
	return b.last[1].States(entity)
}

// DumpEvents implements EventKeeper.
func (b *MemoryBackend) DumpEvents(_ testing.TB, topic string) []consumers.Event {
	return b.last[1].Events(topic)
}

// CrashPoints implements Crasher. What stands between is one step in memory.
func (b *MemoryBackend) CrashPoints() []string { return []string{"before", "after"} }

// CrashAt implements Crasher.
func (b *MemoryBackend) CrashAt(t testing.TB, point string) { b.CrashServing(t, 1, point) }

// OpenGeneration implements Generations.
func (b *MemoryBackend) OpenGeneration(t testing.TB, generation int) fold.Sink {
	m, err := b.server.Open(generation, Projections()...)
	if err != nil {
		t.Fatal(err)
	}
	b.last[generation] = m
	return m
}

// ReadServing implements Generations.
func (b *MemoryBackend) ReadServing(_ testing.TB, entity string) (map[string]fold.Stored, bool) {
	return b.server.Read(entity), true
}

// Traces implements Generations.
func (b *MemoryBackend) Traces(_ testing.TB, generation int) []string {
	var left []string
	for _, n := range b.server.Generations() {
		if n == generation {
			left = append(left, fmt.Sprint("generation ", n))
		}
	}
	return left
}

// TellsBehind implements Generations.
func (*MemoryBackend) TellsBehind() bool { return true }

// ServePoints implements Generations.
func (*MemoryBackend) ServePoints() []string { return []string{"before serving", "after serving"} }

// RemovePoints implements Generations.
func (*MemoryBackend) RemovePoints() []string { return []string{"half removed"} }

// CrashServing implements Generations.
func (b *MemoryBackend) CrashServing(_ testing.TB, generation int, point string) {
	b.last[generation].crash = point
}

// DoubleState implements StatePlanter.
func (b *MemoryBackend) DoubleState(t testing.TB, entity, key string) {
	if !b.last[1].Double(entity, key) {
		t.Fatalf("there is no %s %q", entity, key)
	}
}

// DoubleEvent implements EventPlanter.
func (b *MemoryBackend) DoubleEvent(t testing.TB, tp consumers.TopicPartition, offset int64) {
	if !b.last[1].DoubleEvent(tp, offset) {
		t.Fatalf("no event of %v is kept at %d", tp, offset)
	}
}
