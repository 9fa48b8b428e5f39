package sinktest

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// flaws are sinks that break the contract in one way each. The suite must find every one.
var flaws = map[string]func(*Memory) fold.Sink{
	"no epoch check":                         func(m *Memory) fold.Sink { return &noEpochCheck{m} },
	"no position check":                      func(m *Memory) fold.Sink { return &noPositionCheck{m} },
	"position check lets repeats through":    func(m *Memory) fold.Sink { return &onlyGaps{m} },
	"position check lets gaps through":       func(m *Memory) fold.Sink { return &onlyRepeats{m} },
	"repeats are taken for success":          func(m *Memory) fold.Sink { return &silentRepeat{m} },
	"position moves before the states":       func(m *Memory) fold.Sink { return &positionFirst{m} },
	"states are written before the checks":   func(m *Memory) fold.Sink { return &statesFirst{m} },
	"changes are written one by one":         func(m *Memory) fold.Sink { return &oneByOne{m} },
	"the version of the deleted is lost":     func(m *Memory) fold.Sink { return &forgetsDeleted{m} },
	"deleted states stay visible":            func(m *Memory) fold.Sink { return &keepsDeleted{m} },
	"claims keep the epoch":                  func(m *Memory) fold.Sink { return &sameEpoch{m} },
	"epochs are forgotten":                   func(m *Memory) fold.Sink { return newEpochs(m) },
	"positions go by number of partition":    func(m *Memory) fold.Sink { return &byNumber{m} },
	"quarantine is forgotten":                func(m *Memory) fold.Sink { return &noQuarantine{m} },
	"the mark of the topic is left out":      func(m *Memory) fold.Sink { return &noTopic{m} },
	"quarantine is written before the check": func(m *Memory) fold.Sink { return &quarantineFirst{m} },
	"quarantine is replaced by the newest":   func(m *Memory) fold.Sink { return &newestQuarantine{m} },
	"marks stay":                             func(m *Memory) fold.Sink { return &neverLifts{m} },
	"all marks are lifted":                   func(m *Memory) fold.Sink { return &liftsAll{m} },
	"marks are lifted before the check":      func(m *Memory) fold.Sink { return &liftsFirst{m} },
	"marks are set before others are lifted": func(m *Memory) fold.Sink { return &liftsLast{m} },
	"marks are lifted, states are not kept":  func(m *Memory) fold.Sink { return &liftsOnly{m} },
	"unknown entities are left out":          func(m *Memory) fold.Sink { return &skipsUnknown{m} },
	"empty batches are left out":             func(m *Memory) fold.Sink { return &skipsEmpty{m} },
	"events are lost":                        func(m *Memory) fold.Sink { return &losesEvents{m} },
	"empty text becomes null":                func(m *Memory) fold.Sink { return &mangles{m, emptyToNull} },
	"times lose their microseconds":          func(m *Memory) fold.Sink { return &mangles{m, toMillis} },
	"decimals become floats":                 func(m *Memory) fold.Sink { return &mangles{m, throughFloat} },
	"large integers become floats":           func(m *Memory) fold.Sink { return &mangles{m, intThroughFloat} },
	"the first of many keys only":            func(m *Memory) fold.Sink { return &loadsFew{m} },

	"snapshots move on":                     func(m *Memory) fold.Sink { return &snaps{m, liveStates} },
	"positions of snapshots move on":        func(m *Memory) fold.Sink { return &snaps{m, livePositions} },
	"snapshots leave out the deleted":       func(m *Memory) fold.Sink { return &snaps{m, withoutDeleted} },
	"snapshots hide doubles":                func(m *Memory) fold.Sink { return &snaps{m, withoutDoubles} },
	"snapshots end early without a word":    func(m *Memory) fold.Sink { return &snaps{m, endsInSilence} },
	"snapshots hold commits up":             func(m *Memory) fold.Sink { return &snapsAlone{Memory: m} },
	"records come as they were committed":   func(m *Memory) fold.Sink { return &keeps{m, asCommitted} },
	"records lose the order of headers":     func(m *Memory) fold.Sink { return &keeps{m, sortedHeaders} },
	"records have each header once":         func(m *Memory) fold.Sink { return &keeps{m, headersOnce} },
	"records have headers in UTF-8":         func(m *Memory) fold.Sink { return &keeps{m, headersAsText} },
	"records have no headers without value": func(m *Memory) fold.Sink { return &keeps{m, headersNotNull} },
	"records lose their frame":              func(m *Memory) fold.Sink { return &keeps{m, withoutFrame} },
	"records include the end":               func(m *Memory) fold.Sink { return &keepsEnd{m} },
	"records come once":                     func(m *Memory) fold.Sink { return &keepsOnce{m} },
	"doubles are not counted":               func(m *Memory) fold.Sink { return &countsOnce{m} },
	"equal versions are not replaced":       func(m *Memory) fold.Sink { return &neverReplaces{m} },
	"greater versions are replaced":         func(m *Memory) fold.Sink { return &replacesAll{m} },
	"replacements are two steps":            func(m *Memory) fold.Sink { return &replacesInTwo{m} },
	"doubles are replaced one by one":       func(m *Memory) fold.Sink { return &replacesOne{m} },
	"replacements move the position":        func(m *Memory) fold.Sink { return &replaceMoves{m} },
	"replacements are anybody's":            func(m *Memory) fold.Sink { return &replacesForAll{m} },
	"generations share their positions":     func(m *Memory) fold.Sink { return sharesPositions(m) },
	"generations share their states":        func(m *Memory) fold.Sink { return sharesStates(m) },
	"serving changes nothing":               func(m *Memory) fold.Sink { return &servesNever{m} },
	"serving compares nothing":              func(m *Memory) fold.Sink { return &servesBehind{m} },
	"serving twice is serving the first":    func(m *Memory) fold.Sink { return &servesInTurn{m} },
	"serving has a gap":                     func(m *Memory) fold.Sink { return &servesNobody{m} },
	"what serves is removed":                func(m *Memory) fold.Sink { return &removesServing{m} },
	"removal leaves traces":                 func(m *Memory) fold.Sink { return &removesNothing{m} },
	"removal cannot be repeated":            func(m *Memory) fold.Sink { return &removesOnce{m} },
}

func TestSuiteFindsFlaws(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(flaws)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failed := failing(t, func(testing.TB) Backend { return &flawed{MemoryBackend: NewMemoryBackend(), flaw: flaws[name]} })
			if len(failed) == 0 {
				t.Fatal("the suite passed")
			}
			t.Logf("found by %d checks: %s", len(failed), strings.Join(failed, "; "))
		})
	}
}

func TestSuiteFindsNoneInMemory(t *testing.T) {
	if failed := failing(t, func(testing.TB) Backend { return NewMemoryBackend() }); len(failed) > 0 {
		t.Fatalf("failed: %s", strings.Join(failed, "; "))
	}
}

// TestHistoriesAloneFindFlaws holds the histories to what they are for: trouble of order and ownership that no check thought of.
func TestHistoriesAloneFindFlaws(t *testing.T) {
	for _, name := range []string{"no epoch check", "no position check", "position moves before the states", "the version of the deleted is lost", "quarantine is forgotten", "events are lost"} {
		t.Run(name, func(t *testing.T) {
			found := 0
			for seed := range uint64(40) {
				r := &recorder{TB: t}
				r.run(func(tb testing.TB) {
					checkHistory(tb, &flawed{MemoryBackend: NewMemoryBackend(), flaw: flaws[name]}, seed)
				})
				if r.Failed() {
					found++
				}
			}
			if found < 20 {
				t.Errorf("%d of 40 histories found it", found)
			}
		})
	}
}

// failing runs the suite and returns the names of the checks that fail.
func failing(t *testing.T, newBackend func(testing.TB) Backend) []string {
	var failed []string
	for _, c := range checks() {
		r := &recorder{TB: t}
		r.run(func(tb testing.TB) { c.run(tb, newBackend) })
		if r.Failed() {
			failed = append(failed, c.name)
		}
	}
	return failed
}

// recorder is a testing.TB that notes failures instead of failing the test.
type recorder struct {
	testing.TB

	mu     sync.Mutex // guards the following
	failed bool
}

// run runs a check to its end or to its FailNow.
func (r *recorder) run(f func(testing.TB)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.Fail()
			}
		}()
		f(r)
	}()
	<-done
}

func (r *recorder) Helper() {}
func (r *recorder) Fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}
func (r *recorder) FailNow()              { r.Fail(); runtime.Goexit() }
func (r *recorder) Error(...any)          { r.Fail() }
func (r *recorder) Errorf(string, ...any) { r.Fail() }
func (r *recorder) Fatal(...any)          { r.FailNow() }
func (r *recorder) Fatalf(string, ...any) { r.FailNow() }
func (r *recorder) Log(...any)            {}
func (r *recorder) Logf(string, ...any)   {}
func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// flawed is a backend whose sink has a flaw.
type flawed struct {
	*MemoryBackend
	flaw func(*Memory) fold.Sink
}

func (b *flawed) Open(t testing.TB) fold.Sink { return b.OpenGeneration(t, 1) }

func (b *flawed) OpenGeneration(t testing.TB, generation int) fold.Sink {
	b.MemoryBackend.OpenGeneration(t, generation)
	return b.flaw(b.last[generation])
}

func (b *flawed) Dump(t testing.TB, entity string) map[string]fold.Stored {
	if d, ok := b.flaw(b.last[1]).(interface {
		dump(string) map[string]fold.Stored
	}); ok {
		return d.dump(entity)
	}
	return b.MemoryBackend.Dump(t, entity)
}

// edit changes the stored partition under lock.
func (m *Memory) edit(tp consumers.TopicPartition, f func(*memoryPartition)) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if p := m.store.owned[tp]; p != nil {
		f(p)
	}
}

func (m *Memory) stored(tp consumers.TopicPartition) (epoch, next int64) {
	next = -1
	m.edit(tp, func(p *memoryPartition) { epoch, next = p.epoch, p.next })
	return epoch, next
}

type noEpochCheck struct{ *Memory }

func (s *noEpochCheck) Commit(ctx context.Context, c fold.Commit) error {
	c.Epoch, _ = s.stored(c.TopicPartition)
	return s.Memory.Commit(ctx, c)
}

type noPositionCheck struct{ *Memory }

func (s *noPositionCheck) Commit(ctx context.Context, c fold.Commit) error {
	if e, next := s.stored(c.TopicPartition); e == c.Epoch && next != -1 {
		c.From = next
	}
	return s.Memory.Commit(ctx, c)
}

type onlyGaps struct{ *Memory }

func (s *onlyGaps) Commit(ctx context.Context, c fold.Commit) error {
	if e, next := s.stored(c.TopicPartition); e == c.Epoch && next > c.From {
		c.From = next
	}
	return s.Memory.Commit(ctx, c)
}

type onlyRepeats struct{ *Memory }

func (s *onlyRepeats) Commit(ctx context.Context, c fold.Commit) error {
	if e, next := s.stored(c.TopicPartition); e == c.Epoch && next < c.From && next != -1 {
		c.From = next
	}
	return s.Memory.Commit(ctx, c)
}

type silentRepeat struct{ *Memory }

func (s *silentRepeat) Commit(ctx context.Context, c fold.Commit) error {
	if e, next := s.stored(c.TopicPartition); e == c.Epoch && next >= c.Next {
		return nil
	}
	return s.Memory.Commit(ctx, c)
}

type positionFirst struct{ *Memory }

func (s *positionFirst) Commit(ctx context.Context, c fold.Commit) error {
	e, next := s.stored(c.TopicPartition)
	err := s.Memory.Commit(ctx, c)
	if err != nil && e == c.Epoch && (next == -1 || next == c.From) {
		s.edit(c.TopicPartition, func(p *memoryPartition) { p.next = c.Next })
	}
	return err
}

type statesFirst struct{ *Memory }

func (s *statesFirst) Commit(ctx context.Context, c fold.Commit) error {
	if s.store.check(c) == nil {
		s.write(c)
	}
	return s.Memory.Commit(ctx, c)
}

func (m *Memory) write(c fold.Commit) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	for entity, changes := range c.Changes {
		for _, ch := range changes {
			m.store.states[entity][ch.Key] = ch.Stored
		}
	}
}

type oneByOne struct{ *Memory }

func (s *oneByOne) Commit(ctx context.Context, c fold.Commit) error {
	e, next := s.stored(c.TopicPartition)
	err := s.Memory.Commit(ctx, c)
	if err != nil && e == c.Epoch && (next == -1 || next == c.From) {
		for entity, changes := range c.Changes {
			half := c
			half.Changes = map[string][]fold.Change{entity: changes[:len(changes)/2]}
			if s.store.check(half) == nil {
				s.write(half)
			}
		}
	}
	return err
}

type forgetsDeleted struct{ *Memory }

func (s *forgetsDeleted) Load(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	got, err := s.Memory.Load(ctx, entity, keys)
	maps.DeleteFunc(got, func(_ string, s fold.Stored) bool { return !s.Exists })
	return got, err
}

type keepsDeleted struct{ *Memory }

func (s *keepsDeleted) dump(entity string) map[string]fold.Stored {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return maps.Clone(s.store.states[entity])
}

type sameEpoch struct{ *Memory }

func (s *sameEpoch) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	s.edit(tp, func(p *memoryPartition) { p.epoch = 0 })
	return s.Memory.Claim(ctx, tp)
}

type forgottenEpochs struct{ *Memory }

func newEpochs(m *Memory) fold.Sink {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	for _, p := range m.store.owned {
		p.epoch = 0
	}
	return &forgottenEpochs{m}
}

type byNumber struct{ *Memory }

func (s *byNumber) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	tp.Topic = ""
	return s.Memory.Claim(ctx, tp)
}

func (s *byNumber) Commit(ctx context.Context, c fold.Commit) error {
	c.Topic = ""
	return s.Memory.Commit(ctx, c)
}

func (s *byNumber) Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error) {
	got, err := s.Memory.Positions(ctx)
	all := map[consumers.TopicPartition]int64{}
	for tp, next := range got {
		for _, topic := range []string{TopicLedger, TopicWide} {
			all[consumers.TopicPartition{Topic: topic, Partition: tp.Partition}] = next
		}
	}
	return all, err
}

type noQuarantine struct{ *Memory }

func (s *noQuarantine) Commit(ctx context.Context, c fold.Commit) error {
	c.Quarantine = nil
	return s.Memory.Commit(ctx, c)
}

type noTopic struct{ *Memory }

func (s *noTopic) Commit(ctx context.Context, c fold.Commit) error {
	c.Quarantine = maps.Clone(c.Quarantine)
	delete(c.Quarantine, "")
	return s.Memory.Commit(ctx, c)
}

type quarantineFirst struct{ *Memory }

func (s *quarantineFirst) Commit(ctx context.Context, c fold.Commit) error {
	s.edit(c.TopicPartition, func(p *memoryPartition) { maps.Copy(p.quarantined, c.Quarantine) })
	return s.Memory.Commit(ctx, c)
}

type newestQuarantine struct{ *Memory }

func (s *newestQuarantine) Commit(ctx context.Context, c fold.Commit) error {
	if len(c.Quarantine) > 0 {
		s.edit(c.TopicPartition, func(p *memoryPartition) { clear(p.quarantined) })
	}
	return s.Memory.Commit(ctx, c)
}

type neverLifts struct{ *Memory }

func (s *neverLifts) Commit(ctx context.Context, c fold.Commit) error {
	c.Lifted = nil
	return s.Memory.Commit(ctx, c)
}

type liftsAll struct{ *Memory }

func (s *liftsAll) Commit(ctx context.Context, c fold.Commit) error {
	if len(c.Lifted) > 0 {
		s.edit(c.TopicPartition, func(p *memoryPartition) { c.Lifted = slices.Collect(maps.Keys(p.quarantined)) })
	}
	return s.Memory.Commit(ctx, c)
}

type liftsFirst struct{ *Memory }

func (s *liftsFirst) Commit(ctx context.Context, c fold.Commit) error {
	s.edit(c.TopicPartition, func(p *memoryPartition) { p.mark(fold.Commit{Lifted: c.Lifted}) })
	return s.Memory.Commit(ctx, c)
}

type liftsLast struct{ *Memory }

func (s *liftsLast) Commit(ctx context.Context, c fold.Commit) error {
	err := s.Memory.Commit(ctx, c)
	if err == nil {
		s.edit(c.TopicPartition, func(p *memoryPartition) { p.mark(fold.Commit{Lifted: c.Lifted}) })
	}
	return err
}

type liftsOnly struct{ *Memory }

func (s *liftsOnly) Commit(ctx context.Context, c fold.Commit) error {
	if len(c.Lifted) > 0 {
		c.Changes, c.Events = nil, nil
	}
	return s.Memory.Commit(ctx, c)
}

type skipsUnknown struct{ *Memory }

func (s *skipsUnknown) Commit(ctx context.Context, c fold.Commit) error {
	c.Changes = maps.Clone(c.Changes)
	maps.DeleteFunc(c.Changes, func(entity string, _ []fold.Change) bool { return s.store.columns[entity] == nil })
	return s.Memory.Commit(ctx, c)
}

type skipsEmpty struct{ *Memory }

func (s *skipsEmpty) Commit(ctx context.Context, c fold.Commit) error {
	if len(c.Events) == 0 && len(c.Changes) == 0 && len(c.Quarantine) == 0 {
		return nil
	}
	return s.Memory.Commit(ctx, c)
}

type losesEvents struct{ *Memory }

func (s *losesEvents) Commit(ctx context.Context, c fold.Commit) error {
	if len(c.Events) > 3 {
		c.Events = c.Events[1:]
	}
	return s.Memory.Commit(ctx, c)
}

type loadsFew struct{ *Memory }

func (s *loadsFew) Load(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	return s.Memory.Load(ctx, entity, keys[:min(len(keys), 1000)])
}

// mangles changes values on their way in.
type mangles struct {
	*Memory
	mangle func(any) any
}

func (s *mangles) Commit(ctx context.Context, c fold.Commit) error {
	changed := map[string][]fold.Change{}
	for entity, changes := range c.Changes {
		for _, ch := range changes {
			ch.Values = slices.Clone(ch.Values)
			for i, v := range ch.Values {
				ch.Values[i] = s.mangle(v)
			}
			changed[entity] = append(changed[entity], ch)
		}
	}
	c.Changes = changed
	return s.Memory.Commit(ctx, c)
}

func emptyToNull(v any) any {
	if v == "" {
		return nil
	}
	return v
}

func toMillis(v any) any {
	if x, ok := v.(time.Time); ok {
		return x.Truncate(time.Millisecond)
	}
	return v
}

func throughFloat(v any) any {
	if x, ok := v.(*big.Rat); ok {
		f, _ := x.Float64()
		r, _ := new(big.Rat).SetString(fmt.Sprint(f))
		return r
	}
	return v
}

func intThroughFloat(v any) any {
	if x, ok := v.(int64); ok {
		return int64(float64(x))
	}
	return v
}
