package client

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// store is a cache as a schedule uses it: the model below, or Redis with the client and the sink. Keys are numbers below keys.
type store interface {
	// get is what a reader finds: an entry, or a ticket for a fill and whether it is the first to miss.
	get(key int) (entry, ticket, bool)
	// fill stores what was read.
	fill(key int, t ticket, e entry)
	// fillVersion stores what was read from a replica.
	fillVersion(key int, t ticket, e entry)
	invalidate(key, version int)
	// lose forgets the entry, and the token too if asked: eviction.
	lose(key int, tokenToo bool)
	// tick lets time pass; false if this store's cannot be made to.
	tick() bool
}

const (
	keys = 2
	// In seconds: how much passes at a tick, how long an entry lives, and how long a token.
	tick = 10
	ttl  = 20
	held = 15
)

// entry is what is cached: a version of the row, or that there was none.
type entry struct {
	hit     bool
	absent  bool
	version int // unknown, -1, of a remembered absence on a real server
	read    int // second at which the database was read
}

// ticket is the right to fill: a number in the model, a lease of a server.
type ticket struct {
	n     int
	lease Lease
}

// absent says which versions of a row are deletions. The row is not there before its first version.
func absent(version int) bool { return version%3 == 0 }

// model is the protocol without a server. The flaws leave one part of it out each.
type model struct {
	now     int
	entries [keys]entry
	until   [keys]int // second at which the entry is gone
	tokens  [keys]int // 0: none stands
	ends    [keys]int // second at which the token is gone
	issued  int
	floors  [keys]int // version of the last change that was invalidated

	ignoresVersions    bool // a fill from a replica is as any other
	fillsWithoutToken  bool // a fill needs no token
	invalidationSpares bool // an invalidation leaves the token
	sparesAbsence      bool // an invalidation leaves a remembered absence
	oneTokenForAll     bool // tokens stand twice
	livesForEver       bool // entries have no time to live
	allAreFirst        bool // each reader who misses is told to read the database
}

func (m *model) get(key int) (entry, ticket, bool) {
	if e := m.entries[key]; e.hit && (m.livesForEver || m.now < m.until[key]) {
		return e, ticket{}, false
	}
	if m.tokens[key] != 0 && m.now < m.ends[key] {
		return entry{}, ticket{n: m.tokens[key]}, m.allAreFirst
	}
	if !m.oneTokenForAll || m.issued == 0 {
		m.issued++
	}
	m.tokens[key], m.ends[key] = m.issued, m.now+held
	return entry{}, ticket{n: m.issued}, true
}

func (m *model) fill(key int, t ticket, e entry) {
	if (m.tokens[key] != t.n || m.now >= m.ends[key]) && !m.fillsWithoutToken {
		return
	}
	m.tokens[key] = 0
	m.entries[key], m.until[key] = e, m.now+ttl
}

func (m *model) fillVersion(key int, t ticket, e entry) {
	if e.version >= m.floors[key] || m.ignoresVersions {
		m.fill(key, t, e)
	}
}

func (m *model) invalidate(key, version int) {
	m.floors[key] = version
	if !m.sparesAbsence || !m.entries[key].absent {
		m.entries[key] = entry{}
	}
	if !m.invalidationSpares {
		m.tokens[key] = 0
	}
}

func (m *model) lose(key int, tokenToo bool) {
	m.entries[key] = entry{}
	if tokenToo {
		m.tokens[key] = 0
	}
}

func (m *model) tick() bool { m.now += tick; return true }

// reader is one that missed: it waits for another's fill, or reads the database and fills.
type reader struct {
	key    int
	since  int // what was invalidated when it asked
	ticket ticket
	first  bool // to miss; the others wait
	read   bool // has read the database
	old    bool // reads a replica, which may be behind
	entry  entry
}

// schedule is a random interleaving of readers, writers and invalidations, each step atomic, on a few keys.
type schedule struct {
	rnd         *rand.Rand
	pcg         *rand.PCG
	store       store
	now         int
	timed       bool      // the store's time can be made to pass
	database    [keys]int // version of each row
	invalidated [keys]int // version of the last change whose invalidation is done
	pending     [][2]int  // key and version of committed changes, in order
	sinkIsGone  bool      // no invalidation comes any more
	readers     []reader
	loading     map[ticket]int // how many were told to read the database, by what they fill with

	sharesReads bool // a flaw: a waiting reader takes what the first one has read, and not what the cache has
}

func newSchedule(seed uint64, s store) *schedule {
	p := rand.NewPCG(seed, 1)
	return &schedule{rnd: rand.New(p), pcg: p, store: s, timed: true, loading: map[ticket]int{}}
}

// again makes the schedule ready for another seed.
func (s *schedule) again(seed uint64, st store) {
	s.pcg.Seed(seed, 1)
	clear(s.loading)
	*s = schedule{rnd: s.rnd, pcg: s.pcg, store: st, timed: true, pending: s.pending[:0], readers: s.readers[:0], loading: s.loading, sharesReads: s.sharesReads}
}

// run takes some steps and returns what was served although it must not be.
func (s *schedule) run(steps int) error {
	for range steps {
		key := s.rnd.IntN(keys)
		var err error
		switch s.rnd.IntN(16) {
		case 0, 1, 2: // a writer commits; its invalidation is under way
			s.database[key]++
			s.pending = append(s.pending, [2]int{key, s.database[key]})
		case 3, 4, 5: // the sink gets to the oldest
			if len(s.pending) > 0 && !s.sinkIsGone {
				k, version := s.pending[0][0], s.pending[0][1]
				s.pending = append(s.pending[:0], s.pending[1:]...)
				s.store.invalidate(k, version)
				s.invalidated[k] = version
			}
		case 6:
			s.store.lose(key, s.rnd.IntN(2) == 0)
		case 7:
			if s.timed = s.store.tick(); s.timed {
				s.now += tick
			}
			s.sinkIsGone = s.sinkIsGone || s.rnd.IntN(200) == 0
		case 8, 9, 10:
			err = s.get(key)
		default:
			err = s.readerStep()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// served checks what a reader is given who asked when the change to version since was invalidated.
func (s *schedule) served(key, since int, e entry) error {
	stale := e.version < since
	if e.version < 0 { // some version from since on must be a deletion
		stale = true
		for v := since; v <= s.database[key]; v++ {
			stale = stale && !absent(v)
		}
	}
	switch {
	case stale:
		return fmt.Errorf("key %d is served in version %d (absent: %v) after the invalidation of version %d", key, e.version, e.absent, since)
	case e.version >= 0 && e.absent != absent(e.version):
		return fmt.Errorf("key %d: version %d is served as absent: %v", key, e.version, e.absent)
	case s.timed && e.version >= 0 && s.now-e.read > ttl+2*held:
		return fmt.Errorf("key %d is served %d seconds after it was read", key, s.now-e.read)
	}
	return nil
}

func (s *schedule) get(key int) error {
	e, t, first := s.store.get(key)
	if e.hit {
		return s.served(key, s.invalidated[key], e)
	}
	s.readers = append(s.readers, reader{key: key, since: s.invalidated[key], ticket: t, first: first, old: s.rnd.IntN(4) == 0})
	return s.told(t, first)
}

// told counts who is told to read the database: of those with one ticket, one.
func (s *schedule) told(t ticket, first bool) error {
	if first {
		s.loading[t]++
	}
	if s.loading[t] > 1 {
		return fmt.Errorf("%d readers with one lease are told to read the database", s.loading[t])
	}
	return nil
}

// readerStep lets one of the readers who missed look again, read the database, or fill.
func (s *schedule) readerStep() error {
	if len(s.readers) == 0 {
		return nil
	}
	i := s.rnd.IntN(len(s.readers))
	r := &s.readers[i]
	switch {
	case !r.first && !r.read && s.rnd.IntN(4) > 0:
		return s.look(i)
	case !r.read: // the first one; or the patience of another is over
		v := s.database[r.key]
		if r.old {
			v = max(0, v-s.rnd.IntN(3))
		}
		r.read, r.entry = true, entry{hit: true, absent: absent(v), version: v, read: s.now}
		return nil
	}
	if r.old { // what it is given itself is as old as its replica; others must not be
		if !r.entry.absent {
			s.store.fillVersion(r.key, r.ticket, r.entry)
		}
		s.drop(i)
		return nil
	}
	s.store.fill(r.key, r.ticket, r.entry)
	err := s.served(r.key, r.since, entry{version: r.entry.version, absent: r.entry.absent, read: s.now})
	s.drop(i)
	return err
}

// look is what a waiting reader does now and then.
func (s *schedule) look(i int) error {
	r := &s.readers[i]
	if s.sharesReads {
		for _, other := range s.readers {
			if other.key == r.key && other.first && other.read {
				err := s.served(r.key, r.since, other.entry)
				s.drop(i)
				return err
			}
		}
	}
	e, t, first := s.store.get(r.key)
	if e.hit {
		err := s.served(r.key, s.invalidated[r.key], e)
		s.drop(i)
		return err
	}
	r.ticket, r.first = t, first
	return s.told(t, first)
}

func (s *schedule) drop(i int) {
	last := len(s.readers) - 1
	s.readers[i] = s.readers[last]
	s.readers = s.readers[:last]
}

const steps = 60

// seeds returns where the seeds begin, and how many schedules there are: so many, or $MILLRACE_SCHEDULES.
func seeds(t testing.TB, n int) (from, to uint64) {
	t.Helper()
	from = uint64(time.Now().UnixNano())
	for name, take := range map[string]func(uint64){"MILLRACE_SEED": func(v uint64) { from = v }, "MILLRACE_SCHEDULES": func(v uint64) { n = int(v) }} {
		if text := os.Getenv(name); text != "" {
			v, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatalf("$%s: %v", name, err)
			}
			take(v)
		}
	}
	return from, from + uint64(n)
}

// A million random schedules of readers, writers, invalidations, evictions and time.
func TestNoStaleValueIsServedAfterItsInvalidation(t *testing.T) {
	t.Parallel()
	n := 1_000_000
	if testing.Short() {
		n = 50_000
	}
	from, to := seeds(t, n)
	s := newSchedule(from, nil)
	for seed := from; seed != to; seed++ {
		s.again(seed, &model{})
		if err := s.run(steps); err != nil {
			t.Fatalf("schedule %d (MILLRACE_SEED=%d MILLRACE_SCHEDULES=1 runs it alone): %v", seed, seed, err)
		}
	}
}

// TestTheModelCatches holds that the schedules would show it if a part of the protocol were missing.
func TestTheModelCatches(t *testing.T) {
	t.Parallel()
	flaws := map[string]func(*model, *schedule){
		"a fill without a token":                           func(m *model, _ *schedule) { m.fillsWithoutToken = true },
		"an invalidation that spares the token":            func(m *model, _ *schedule) { m.invalidationSpares = true },
		"an invalidation that spares a remembered absence": func(m *model, _ *schedule) { m.sparesAbsence = true },
		"a token that stands twice":                        func(m *model, _ *schedule) { m.oneTokenForAll = true },
		"an entry that lives for ever":                     func(m *model, _ *schedule) { m.livesForEver = true },
		"a fill from a replica without a version":          func(m *model, _ *schedule) { m.ignoresVersions = true },
		"each reader who misses reads the database":        func(m *model, _ *schedule) { m.allAreFirst = true },
		"readers who share what one of them has read":      func(_ *model, s *schedule) { s.sharesReads = true },
	}
	for name, flaw := range flaws {
		caught := 0
		for seed := range uint64(2000) {
			m := &model{}
			s := newSchedule(seed, m)
			flaw(m, s)
			if s.run(10*steps) != nil {
				caught++
			}
		}
		if caught == 0 {
			t.Errorf("%s: no schedule of 2000 shows it", name)
		}
		t.Logf("%s: %d schedules of 2000 show it", name, caught)
	}
}
