package sinktest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// snaps has snapshots with a flaw.
type snaps struct {
	*Memory
	flaw func(*Memory, *memorySnapshot) fold.Snapshot
}

func (s *snaps) Snapshot(ctx context.Context) (fold.Snapshot, error) {
	snap, err := s.Memory.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return s.flaw(s.Memory, snap.(*memorySnapshot)), nil
}

// snap is a snapshot of which a part was replaced.
type snap struct {
	fold.Snapshot
	positions func() map[consumers.TopicPartition]int64
	states    func(ctx context.Context, entity string, yield func(string, fold.Stored) error) error
}

func (s *snap) Positions() map[consumers.TopicPartition]int64 {
	if s.positions == nil {
		return s.Snapshot.Positions()
	}
	return s.positions()
}

func (s *snap) States(ctx context.Context, entity string, yield func(string, fold.Stored) error) error {
	if s.states == nil {
		return s.Snapshot.States(ctx, entity, yield)
	}
	return s.states(ctx, entity, yield)
}

func liveStates(m *Memory, was *memorySnapshot) fold.Snapshot {
	return &snap{Snapshot: was, states: func(ctx context.Context, entity string, yield func(string, fold.Stored) error) error {
		now, err := m.Snapshot(ctx)
		if err != nil {
			return err
		}
		return now.States(ctx, entity, yield)
	}}
}

func livePositions(m *Memory, was *memorySnapshot) fold.Snapshot {
	return &snap{Snapshot: was, positions: func() map[consumers.TopicPartition]int64 {
		now, _ := m.Positions(context.Background())
		return now
	}}
}

func withoutDeleted(_ *Memory, was *memorySnapshot) fold.Snapshot {
	return &snap{Snapshot: was, states: func(ctx context.Context, entity string, yield func(string, fold.Stored) error) error {
		return was.States(ctx, entity, func(key string, s fold.Stored) error {
			if !s.Exists {
				return nil
			}
			return yield(key, s)
		})
	}}
}

func withoutDoubles(_ *Memory, was *memorySnapshot) fold.Snapshot {
	return &snap{Snapshot: was, states: func(ctx context.Context, entity string, yield func(string, fold.Stored) error) error {
		seen := map[string]bool{}
		return was.States(ctx, entity, func(key string, s fold.Stored) error {
			if seen[key] {
				return nil
			}
			seen[key] = true
			return yield(key, s)
		})
	}}
}

func endsInSilence(_ *Memory, was *memorySnapshot) fold.Snapshot {
	return &snap{Snapshot: was, states: func(ctx context.Context, entity string, yield func(string, fold.Stored) error) error {
		_ = was.States(ctx, entity, yield)
		return nil
	}}
}

// snapsAlone refuses commits while a snapshot is open, as one would that waits for a lock.
type snapsAlone struct {
	*Memory
	mu   sync.Mutex
	open int
}

func (s *snapsAlone) Snapshot(ctx context.Context) (fold.Snapshot, error) {
	got, err := s.Memory.Snapshot(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	return got, err
}

func (s *snapsAlone) Commit(ctx context.Context, c fold.Commit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open > 0 {
		return errors.New("a snapshot is open")
	}
	return s.Memory.Commit(ctx, c)
}

// keeps gives back records with a flaw.
type keeps struct {
	*Memory
	flaw func(*Memory, []*kgo.Record) []*kgo.Record
}

func (s *keeps) Records(ctx context.Context, tp consumers.TopicPartition, from, until int64, yield func(*kgo.Record) error) error {
	var all []*kgo.Record
	if err := s.Memory.Records(ctx, tp, from, until, func(r *kgo.Record) error { all = append(all, r); return nil }); err != nil {
		return err
	}
	for _, r := range s.flaw(s.Memory, all) {
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

func asCommitted(m *Memory, all []*kgo.Record) []*kgo.Record {
	var out []*kgo.Record
	for _, ev := range m.store.events {
		for _, r := range all {
			if r.Offset == ev.Offset && r.Partition == ev.Partition && !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out
}

func eachHeader(all []*kgo.Record, f func([]kgo.RecordHeader) []kgo.RecordHeader) []*kgo.Record {
	for _, r := range all {
		r.Headers = f(r.Headers)
	}
	return all
}

func sortedHeaders(_ *Memory, all []*kgo.Record) []*kgo.Record {
	return eachHeader(all, func(hs []kgo.RecordHeader) []kgo.RecordHeader {
		slices.SortStableFunc(hs, func(a, b kgo.RecordHeader) int { return strings.Compare(a.Key, b.Key) })
		return hs
	})
}

func headersOnce(_ *Memory, all []*kgo.Record) []*kgo.Record {
	return eachHeader(all, func(hs []kgo.RecordHeader) []kgo.RecordHeader {
		return slices.CompactFunc(hs, func(a, b kgo.RecordHeader) bool { return a.Key == b.Key || a.Key == "twice" && b.Key == "other" })
	})
}

func headersAsText(_ *Memory, all []*kgo.Record) []*kgo.Record {
	return eachHeader(all, func(hs []kgo.RecordHeader) []kgo.RecordHeader {
		for i := range hs {
			if hs[i].Value != nil {
				hs[i].Value = []byte(strings.ToValidUTF8(string(hs[i].Value), "\ufffd"))
			}
		}
		return hs
	})
}

func headersNotNull(_ *Memory, all []*kgo.Record) []*kgo.Record {
	return eachHeader(all, func(hs []kgo.RecordHeader) []kgo.RecordHeader {
		for i := range hs {
			hs[i].Value = append([]byte{}, hs[i].Value...)
		}
		return hs
	})
}

func withoutFrame(_ *Memory, all []*kgo.Record) []*kgo.Record {
	for _, r := range all {
		r.Value = r.Value[5:]
	}
	return all
}

type keepsEnd struct{ *Memory }

func (s *keepsEnd) Records(ctx context.Context, tp consumers.TopicPartition, from, until int64, yield func(*kgo.Record) error) error {
	return s.Memory.Records(ctx, tp, from, until+1, yield)
}

type keepsOnce struct{ *Memory }

func (s *keepsOnce) Records(ctx context.Context, tp consumers.TopicPartition, from, until int64, yield func(*kgo.Record) error) error {
	last := int64(-1)
	return s.Memory.Records(ctx, tp, from, until, func(r *kgo.Record) error {
		if r.Offset == last {
			return nil
		}
		last = r.Offset
		return yield(r)
	})
}

type countsOnce struct{ *Memory }

func (s *countsOnce) Kept(ctx context.Context) (map[consumers.TopicPartition]fold.Kept, error) {
	all, err := s.Memory.Kept(ctx)
	for tp, k := range all {
		k.Events = k.Offsets
		all[tp] = k
	}
	return all, err
}

type neverReplaces struct{ *Memory }

func (s *neverReplaces) Commit(ctx context.Context, c fold.Commit) error {
	if c.Replace {
		c.Changes = nil
	}
	return s.Memory.Commit(ctx, c)
}

type replacesAll struct{ *Memory }

func (s *replacesAll) Commit(ctx context.Context, c fold.Commit) error {
	if c.Replace {
		for entity, changes := range c.Changes {
			for _, ch := range changes {
				s.Drop(entity, ch.Key)
			}
		}
	}
	return s.Memory.Commit(ctx, c)
}

// replacesOne leaves the second of a doubled state where it is.
type replacesOne struct{ *Memory }

func (s *replacesOne) Commit(ctx context.Context, c fold.Commit) error {
	s.store.mu.Lock()
	kept := map[string]map[string][]fold.Stored{}
	for entity, m := range s.store.doubles {
		kept[entity] = maps.Clone(m)
	}
	s.store.mu.Unlock()
	err := s.Memory.Commit(ctx, c)
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.doubles = kept
	return err
}

// replacesInTwo takes states away before it puts others there: a crash in between leaves none.
type replacesInTwo struct{ *Memory }

func (s *replacesInTwo) Commit(ctx context.Context, c fold.Commit) error {
	err := s.Memory.Commit(ctx, c)
	if c.Replace && errors.Is(err, errCrashed) {
		for entity, changes := range c.Changes {
			for _, ch := range changes {
				s.Drop(entity, ch.Key)
			}
		}
	}
	return err
}

type replaceMoves struct{ *Memory }

func (s *replaceMoves) Commit(ctx context.Context, c fold.Commit) error {
	if c.Replace {
		c.Next++
	}
	return s.Memory.Commit(ctx, c)
}

type replacesForAll struct{ *Memory }

func (s *replacesForAll) Commit(ctx context.Context, c fold.Commit) error {
	if c.Replace {
		c.Epoch, _ = s.stored(c.TopicPartition)
	}
	return s.Memory.Commit(ctx, c)
}

// sharesPositions has the positions of the first generation in all of them.
func sharesPositions(m *Memory) fold.Sink {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if first := m.store.server.generations[1]; first != nil {
		m.store.owned = first.owned
	}
	return m
}

func sharesStates(m *Memory) fold.Sink {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if first := m.store.server.generations[1]; first != nil {
		m.store.states = first.states
	}
	return m
}

type servesNever struct{ *Memory }

func (s *servesNever) Serve(context.Context) error { return nil }

type servesBehind struct{ *Memory }

func (s *servesBehind) Serve(context.Context) error {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.server.serving = s.store.generation
	return nil
}

type servesInTurn struct{ *Memory }

func (s *servesInTurn) Serve(ctx context.Context) error {
	if s.store.server.Serving() == s.store.generation {
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		s.store.server.serving = 1
		return nil
	}
	return s.Memory.Serve(ctx)
}

// servesNobody leaves readers alone until the next step, which may never come.
type servesNobody struct{ *Memory }

func (s *servesNobody) Serve(ctx context.Context) error {
	err := s.Memory.Serve(ctx)
	if errors.Is(err, errCrashed) {
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		s.store.server.serving = 0
	}
	return err
}

type removesServing struct{ *Memory }

func (s *removesServing) Remove(ctx context.Context) error {
	if err := s.Memory.Remove(ctx); !errors.Is(err, fold.ErrServing) {
		return err
	}
	return nil
}

type removesNothing struct{ *Memory }

func (s *removesNothing) Remove(context.Context) error { return nil }

type removesOnce struct{ *Memory }

func (s *removesOnce) Remove(ctx context.Context) error {
	s.store.mu.Lock()
	gone := s.store.gone()
	s.store.mu.Unlock()
	if gone != nil {
		return gone
	}
	return s.Memory.Remove(ctx)
}
