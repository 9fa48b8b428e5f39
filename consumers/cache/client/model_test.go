package client

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
)

// store is a cache as a schedule uses it: the model below, or Redis with the client and the sink.
type store interface {
	get(key string) (version int, lease Lease, hit bool)
	fill(key string, lease Lease, version int)
	invalidate(key string, version int)
	// lose forgets the value, and the token too if asked: eviction, or the end of a time to live.
	lose(key string, tokenToo bool)
}

// model is the protocol without a server. The flaws leave one part of it out each.
type model struct {
	values map[string]int
	tokens map[string]Lease
	issued int

	fillsWithoutToken  bool // a fill needs no token
	invalidationSpares bool // an invalidation leaves the token
	oneTokenForAll     bool // tokens stand twice
}

func newModel() *model { return &model{values: map[string]int{}, tokens: map[string]Lease{}} }

func (m *model) get(key string) (int, Lease, bool) {
	if v, ok := m.values[key]; ok {
		return v, "", true
	}
	if _, ok := m.tokens[key]; !ok {
		if !m.oneTokenForAll {
			m.issued++
		}
		m.tokens[key] = Lease("token " + strconv.Itoa(m.issued))
	}
	return 0, m.tokens[key], false
}

func (m *model) fill(key string, lease Lease, version int) {
	if m.tokens[key] != lease && !m.fillsWithoutToken {
		return
	}
	delete(m.tokens, key)
	m.values[key] = version
}

func (m *model) invalidate(key string, _ int) {
	delete(m.values, key)
	if !m.invalidationSpares {
		delete(m.tokens, key)
	}
}

func (m *model) lose(key string, tokenToo bool) {
	delete(m.values, key)
	if tokenToo {
		delete(m.tokens, key)
	}
}

// reader is one that missed and is on the way to a fill.
type reader struct {
	key     string
	lease   Lease
	read    bool // has read the database
	version int
}

// schedule is a random interleaving of readers, writers and invalidations, each step atomic, on a few keys.
type schedule struct {
	rnd         *rand.Rand
	store       store
	keys        []string
	database    map[string]int // version of each key
	pending     []func()       // invalidations of committed changes, in order
	invalidated map[string]int // version of the last change whose invalidation is done
	readers     []*reader
}

func newSchedule(seed uint64, s store, keys ...string) *schedule {
	return &schedule{rnd: rand.New(rand.NewPCG(seed, 1)), store: s, keys: keys, database: map[string]int{}, invalidated: map[string]int{}}
}

// run takes some steps and returns what was served although it must not be.
func (s *schedule) run(steps int) error {
	for range steps {
		key := s.keys[s.rnd.IntN(len(s.keys))]
		switch s.rnd.IntN(10) {
		case 0, 1: // a writer commits; its invalidation is under way
			s.database[key]++
			version := s.database[key]
			s.pending = append(s.pending, func() {
				s.store.invalidate(key, version)
				s.invalidated[key] = version
			})
		case 2, 3: // the sink gets to the oldest
			if len(s.pending) > 0 {
				s.pending[0]()
				s.pending = s.pending[1:]
			}
		case 4:
			s.store.lose(key, s.rnd.IntN(2) == 0)
		case 5, 6:
			if err := s.get(key); err != nil {
				return err
			}
		default:
			s.readerStep()
		}
	}
	return nil
}

func (s *schedule) get(key string) error {
	version, lease, hit := s.store.get(key)
	if !hit {
		s.readers = append(s.readers, &reader{key: key, lease: lease})
		return nil
	}
	if version < s.invalidated[key] {
		return fmt.Errorf("%s is served in version %d after the invalidation of version %d", key, version, s.invalidated[key])
	}
	return nil
}

// readerStep lets one of the readers who missed read the database, or fill.
func (s *schedule) readerStep() {
	if len(s.readers) == 0 {
		return
	}
	i := s.rnd.IntN(len(s.readers))
	r := s.readers[i]
	if !r.read {
		r.read, r.version = true, s.database[r.key]
		return
	}
	s.store.fill(r.key, r.lease, r.version)
	s.readers = append(s.readers[:i], s.readers[i+1:]...)
}

const schedules = 20_000

func TestNoStaleValueIsServedAfterItsInvalidation(t *testing.T) {
	for seed := range uint64(schedules) {
		if err := newSchedule(seed, newModel(), "a", "b").run(60); err != nil {
			t.Fatalf("schedule %d: %v", seed, err)
		}
	}
}

// TestTheModelCatches holds that the schedules would show it if a part of the protocol were missing.
func TestTheModelCatches(t *testing.T) {
	for name, flaw := range map[string]func(*model){
		"a fill without a token":                func(m *model) { m.fillsWithoutToken = true },
		"an invalidation that spares the token": func(m *model) { m.invalidationSpares = true },
		"a token that stands twice":             func(m *model) { m.oneTokenForAll = true },
	} {
		caught := 0
		for seed := range uint64(1000) {
			m := newModel()
			flaw(m)
			if newSchedule(seed, m, "a", "b").run(60) != nil {
				caught++
			}
		}
		if caught == 0 {
			t.Errorf("%s: no schedule of 1000 shows it", name)
		}
		t.Logf("%s: %d schedules of 1000 show it", name, caught)
	}
}
