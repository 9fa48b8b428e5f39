package client

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
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
	// invalidate has the sink of a generation apply the change of a key to a version, the next that it has not applied.
	invalidate(generation, key, version int)
	// begin makes a generation with nothing in it.
	begin(generation int)
	// serve has readers use a generation; false if it is behind the one that they use.
	serve(generation int) bool
	// remove removes a generation; false if it serves.
	remove(generation int) bool
	// lose forgets the entry of a generation, and the token too if asked: eviction.
	lose(generation, key int, tokenToo bool)
	// empty forgets everything. The sinks begin with the first change again.
	empty()
	// tick lets time pass; false if this store's cannot be made to.
	tick() bool
}

const (
	keys           = 2
	maxGenerations = 6 // in one schedule
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
	generation, n int
	lease         Lease
}

// absent says which versions of a row are deletions. The row is not there before its first version.
func absent(version int) bool { return version%3 == 0 }

// space is what a generation holds.
type space struct {
	entries [keys]entry
	until   [keys]int // second at which the entry is gone
	tokens  [keys]int // 0: none stands
	ends    [keys]int // second at which the token is gone
	floors  [keys]int // version of the last change that was invalidated
	applied int       // the position of its sink
}

// model is the protocol without a server. The flaws leave one part of it out each.
type model struct {
	now     int
	issued  int
	spaces  [maxGenerations + 1]space
	pointer int // the generation that serves; 0 if nothing says so
	serves  int // the generation whose sink knows that it serves
	known   int // the generation that served when the readers looked last, a while ago; 0 if none of them did

	ignoresVersions    bool // a fill from a replica is as any other
	fillsWithoutToken  bool // a fill needs no token
	invalidationSpares bool // an invalidation leaves the token
	sparesAbsence      bool // an invalidation leaves a remembered absence
	oneTokenForAll     bool // tokens stand twice
	livesForEver       bool // entries have no time to live
	allAreFirst        bool // each reader who misses is told to read the database
	servesBehind       bool // a generation takes over whatever it has applied
	readersAreLate     bool // readers go on for a while with the generation they know
	sparesOld          bool // what does not serve moves its position and invalidates nothing
	leavesLost         bool // nobody puts a lost pointer back
}

// serving is the generation that readers use.
func (m *model) serving() int {
	switch {
	case m.readersAreLate && m.known > 0:
		return m.known
	case m.pointer == 0:
		return 1
	}
	return m.pointer
}

func (m *model) get(key int) (entry, ticket, bool) {
	g := m.serving()
	s := &m.spaces[g]
	if e := s.entries[key]; e.hit && (m.livesForEver || m.now < s.until[key]) {
		return e, ticket{}, false
	}
	if s.tokens[key] != 0 && m.now < s.ends[key] {
		return entry{}, ticket{generation: g, n: s.tokens[key]}, m.allAreFirst
	}
	if !m.oneTokenForAll || m.issued == 0 {
		m.issued++
	}
	s.tokens[key], s.ends[key] = m.issued, m.now+held
	return entry{}, ticket{generation: g, n: m.issued}, true
}

func (m *model) fill(key int, t ticket, e entry) {
	s := &m.spaces[t.generation]
	if (s.tokens[key] != t.n || m.now >= s.ends[key]) && !m.fillsWithoutToken {
		return
	}
	s.tokens[key] = 0
	s.entries[key], s.until[key] = e, m.now+ttl
}

func (m *model) fillVersion(key int, t ticket, e entry) {
	if e.version >= m.spaces[t.generation].floors[key] || m.ignoresVersions {
		m.fill(key, t, e)
	}
}

func (m *model) invalidate(generation, key, version int) {
	if m.pointer == 0 && m.serves == generation && !m.leavesLost {
		m.pointer = generation
	}
	s := &m.spaces[generation]
	s.applied++
	if m.sparesOld && generation != m.pointer {
		return
	}
	s.floors[key] = version
	if !m.sparesAbsence || !s.entries[key].absent {
		s.entries[key] = entry{}
	}
	if !m.invalidationSpares {
		s.tokens[key] = 0
	}
}

func (m *model) begin(generation int) { m.spaces[generation] = space{} }

func (m *model) serve(generation int) bool {
	if m.spaces[generation].applied < m.spaces[max(m.pointer, 1)].applied && !m.servesBehind {
		return false
	}
	m.pointer, m.serves = generation, generation
	return true
}

func (m *model) remove(generation int) bool {
	if generation == max(m.pointer, 1) {
		return false
	}
	m.spaces[generation] = space{}
	return true
}

func (m *model) lose(generation, key int, tokenToo bool) {
	s := &m.spaces[generation]
	s.entries[key] = entry{}
	if tokenToo {
		s.tokens[key] = 0
	}
}

func (m *model) empty() {
	clear(m.spaces[:])
	m.pointer = 0
}

func (m *model) tick() bool {
	m.now += tick
	m.known = m.pointer
	return true
}

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

// schedule is a random interleaving of readers, writers, invalidations and rebuilds, each step atomic, on a few keys.
type schedule struct {
	rnd         *rand.Rand
	pcg         *rand.PCG
	store       store
	now         int
	timed       bool                    // the store's time can be made to pass
	database    [keys]int               // version of each row
	invalidated [keys]int               // version of the last change whose invalidation is done, in the generation that served then
	log         [][2]int                // key and version of committed changes, in order
	applied     [maxGenerations + 1]int // how many of them the sink of each generation has applied
	serving     int                     // generation
	other       int                     // the one that is built or soaks; 0 if there is none
	newest      int                     // generation that there ever was
	lost        bool                    // nothing says which generation serves: the server lost everything, and the sink has not come to it
	emptied     bool                    // it did so once
	sinkIsGone  bool                    // no invalidation comes any more
	readers     []reader
	loading     map[ticket]int // how many were told to read the database, by what they fill with

	sharesReads bool // a flaw: a waiting reader takes what the first one has read, and not what the cache has
}

func newSchedule(seed uint64, s store) *schedule {
	p := rand.NewPCG(seed, 1)
	return &schedule{rnd: rand.New(p), pcg: p, store: s, timed: true, serving: 1, newest: 1, loading: map[ticket]int{}}
}

// again makes the schedule ready for another seed.
func (s *schedule) again(seed uint64, st store) {
	s.pcg.Seed(seed, 1)
	clear(s.loading)
	*s = schedule{rnd: s.rnd, pcg: s.pcg, store: st, timed: true, serving: 1, newest: 1, log: s.log[:0], readers: s.readers[:0], loading: s.loading, sharesReads: s.sharesReads}
}

// run takes some steps and returns what was served although it must not be.
func (s *schedule) run(steps int) error {
	for range steps {
		key := s.rnd.IntN(keys)
		var err error
		switch s.rnd.IntN(20) {
		case 0, 1, 2: // a writer commits; its invalidation is under way
			s.database[key]++
			s.log = append(s.log, [2]int{key, s.database[key]})
		case 3, 4, 5: // the sink gets to the oldest
			s.apply(s.serving, 1)
		case 6:
			s.store.lose(s.anyGeneration(), key, s.rnd.IntN(2) == 0)
		case 7:
			if s.timed = s.store.tick(); s.timed {
				s.now += tick
			}
			s.sinkIsGone = s.sinkIsGone || s.rnd.IntN(200) == 0
		case 8, 9, 10:
			err = s.get(key)
		case 11, 12: // what is built, or soaks, gets to some
			s.apply(s.other, 1+s.rnd.IntN(4))
		case 13:
			err = s.turn()
		case 14:
			err = s.rebuild()
		default:
			err = s.readerStep()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *schedule) anyGeneration() int {
	if s.other != 0 && s.rnd.IntN(2) == 0 {
		return s.other
	}
	return s.serving
}

// apply has the sink of a generation apply up to n changes.
func (s *schedule) apply(generation, n int) {
	if generation == 0 || s.sinkIsGone {
		return
	}
	for ; n > 0 && s.applied[generation] < len(s.log); n-- {
		c := s.log[s.applied[generation]]
		s.store.invalidate(generation, c[0], c[1])
		s.applied[generation]++
		if generation == s.serving {
			s.lost = false
			s.invalidated[c[0]] = max(s.invalidated[c[0]], c[1])
		}
	}
}

// turn tries to have the generation serve that does not: a cut over, or a rollback.
func (s *schedule) turn() error {
	if s.other == 0 || s.sinkIsGone {
		return nil
	}
	if !s.store.serve(s.other) {
		if s.applied[s.other] >= s.applied[s.serving] {
			return fmt.Errorf("generation %d has applied %d changes and cannot take over from %d, which has applied %d", s.other, s.applied[s.other], s.serving, s.applied[s.serving])
		}
		return nil
	}
	s.serving, s.other, s.lost = s.other, s.serving, false
	for _, c := range s.log[:s.applied[s.serving]] {
		s.invalidated[c[0]] = max(s.invalidated[c[0]], c[1])
	}
	return nil
}

// rebuild begins a generation or removes the one that does not serve; or the server loses everything.
func (s *schedule) rebuild() error {
	switch {
	case s.sinkIsGone:
	case s.rnd.IntN(8) == 0:
		s.empty()
	case s.other != 0 && s.rnd.IntN(2) == 0:
		switch {
		case s.store.remove(s.other):
			s.other = 0
		case !s.lost || s.other != 1:
			return fmt.Errorf("generation %d cannot be removed, and %d serves", s.other, s.serving)
		}
	case s.other == 0 && s.newest < maxGenerations:
		s.newest++
		s.other, s.applied[s.newest] = s.newest, 0
		s.store.begin(s.other)
	}
	return nil
}

// empty has the server lose everything. The floors are lost with the rest: readers of replicas must wait until the sink has read its topics again.
func (s *schedule) empty() {
	s.store.empty()
	clear(s.applied[:])
	s.lost, s.emptied = true, true
	s.readers = slices.DeleteFunc(s.readers, func(r reader) bool { return r.old })
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
	s.readers = append(s.readers, reader{key: key, since: s.invalidated[key], ticket: t, first: first, old: s.rnd.IntN(4) == 0 && !s.emptied})
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

const steps = 72

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

// A million random schedules of readers, writers, invalidations, evictions, time, and generations that take over from each other, forth and back.
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
		"a fill without a token":                            func(m *model, _ *schedule) { m.fillsWithoutToken = true },
		"an invalidation that spares the token":             func(m *model, _ *schedule) { m.invalidationSpares = true },
		"an invalidation that spares a remembered absence":  func(m *model, _ *schedule) { m.sparesAbsence = true },
		"a token that stands twice":                         func(m *model, _ *schedule) { m.oneTokenForAll = true },
		"an entry that lives for ever":                      func(m *model, _ *schedule) { m.livesForEver = true },
		"a fill from a replica without a version":           func(m *model, _ *schedule) { m.ignoresVersions = true },
		"each reader who misses reads the database":         func(m *model, _ *schedule) { m.allAreFirst = true },
		"a generation that is behind takes over":            func(m *model, _ *schedule) { m.servesBehind = true },
		"readers go on with the generation they know":       func(m *model, _ *schedule) { m.readersAreLate = true },
		"only what serves is invalidated":                   func(m *model, _ *schedule) { m.sparesOld = true },
		"only what serves is invalidated, readers are late": func(m *model, _ *schedule) { m.sparesOld, m.readersAreLate = true, true },
		"a lost pointer is left lost":                       func(m *model, _ *schedule) { m.leavesLost = true },
		"readers who share what one of them has read":       func(_ *model, s *schedule) { s.sharesReads = true },
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
