// Package sinktest is the suite that every sink passes, and a sink in memory to read beside it.
//
// Whoever writes a backend writes one test:
//
//	func TestSink(t *testing.T) {
//		sinktest.Run(t, func(t testing.TB) sinktest.Backend { return newBackend(t) })
//	}
//
// and learns whether the backend keeps its part of promise 4 (each event has its effect once, whatever is redelivered, fenced or
// killed). The checks call [fold.Sink] directly with batches made to go wrong; the histories run random ones through
// [fold.Fold] and compare the end with a model that applied each event once. A failing history prints its seed; run it again with
// MILLRACE_SEED=n.
//
// What a sink need not be able to do - snapshots, kept events, generations, states replaced - its backend states in [Offers]; what is stated is
// checked, and a sink that implements more than is stated fails.
//
// The files in the order of reading: sinktest.go (what a backend offers), offers.go (what it need not), fixture.go (what is stored), check_*.go (the
// checks), history.go and model.go (random histories), memory.go, memory_server.go and memory_snapshot.go (the reference), memory_backend.go (it under test).
package sinktest

import (
	"context"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Backend is a store under test, as the suite needs to see it.
type Backend interface {
	// Open opens the store as a starting process does, with [Projections] as its declarations, and returns a sink on it. The first
	// call finds the store empty. A later call stands for a restart after SIGKILL: it finds what was durable, the earlier sink was
	// not closed by the suite and is used no more. A store that only one handle can hold lets go of the earlier one in the roughest
	// way that it has.
	Open(t testing.TB) fold.Sink
	// Dump returns what readers of the store see of an entity: each state that exists, with its version. It reads the sink that
	// Open returned last.
	Dump(t testing.TB, entity string) map[string]fold.Stored
	// Offers says what the sink does beyond fold.Sink. It is the same for every store.
	Offers() Offers
}

// EventKeeper is a Backend whose sink keeps events (bronze).
type EventKeeper interface {
	// DumpEvents returns the events kept of a topic, by partition and offset. Topic, partition, offset, key, id, type, seq, time and
	// payload are compared.
	DumpEvents(t testing.TB, topic string) []consumers.Event
}

// Crasher is a Backend that can stop a Commit half way. Without it the suite knows only failures that a bad value or a cancelled
// context brings about.
type Crasher interface {
	// CrashPoints names the points inside Commit, in order, at which a process may die.
	CrashPoints() []string
	// CrashAt makes the next Commit of the sink that Open returned last stop at the point and return an error, leaving the store as
	// a kill would. The suite opens the store again before it does anything else.
	CrashAt(t testing.TB, point string)
}

// check is one part of the suite. It makes as many stores as it needs.
type check struct {
	name string
	run  func(t testing.TB, newBackend func(t testing.TB) Backend)
}

// one is a check of one store.
func one(name string, run func(t testing.TB, b Backend)) check {
	return check{name, func(t testing.TB, newBackend func(t testing.TB) Backend) { run(t, newBackend(t)) }}
}

// Run checks a backend. newBackend is called for each store that a check needs; it registers its own clean-up.
func Run(t *testing.T, newBackend func(t testing.TB) Backend) {
	t.Helper()
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) { c.run(t, newBackend) })
	}
}

func checks() []check {
	var all []check
	for _, part := range [][]check{positionChecks(), ownerChecks(), stateChecks(), valueChecks(), failureChecks(), offerChecks(), historyChecks()} {
		all = append(all, part...)
	}
	return all
}

// open returns a sink on the backend's store.
func open(t testing.TB, b Backend) fold.Sink {
	t.Helper()
	return b.Open(t)
}

// claim claims a partition and fails the check if it cannot.
func claim(t testing.TB, s fold.Sink, tp consumers.TopicPartition) fold.Claim {
	t.Helper()
	c, err := s.Claim(context.Background(), tp)
	if err != nil {
		t.Fatalf("claim %v: %v", tp, err)
	}
	return c
}

// commit commits and fails the check if that fails.
func commit(t testing.TB, s fold.Sink, c fold.Commit) {
	t.Helper()
	if err := s.Commit(context.Background(), c); err != nil {
		t.Fatalf("commit %v %d..%d at epoch %d: %v", c.TopicPartition, c.From, c.Next, c.Epoch, err)
	}
}
