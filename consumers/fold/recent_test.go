package fold_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
)

func TestRecentStatesAreNotLoadedAgain(t *testing.T) {
	b := newBench(t, nil, words{entity: "a"}, words{entity: "b"})
	b.process(t, "x 1", "y ?")
	b.process(t, "x 2", "y 1", "z 1")
	b.process(t, "x 3", "z 2")
	b.wantStates(t, "a", map[string]string{"x": "123", "y": "1", "z": "12"})
	b.wantStates(t, "b", map[string]string{"x": "123", "y": "1", "z": "12"})
	if want := [][]string{{"x", "y"}, {"x", "y"}, {"z"}, {"z"}}; !reflect.DeepEqual(b.j.loads, want) {
		t.Errorf("loaded %v, want %v", b.j.loads, want)
	}
	if c := b.j.commits[2].Changes["a"][0]; !c.Existed || strings.Join(c.CacheKeys, " ") != "words:12 words:123 x" {
		t.Errorf("a change of a recent state is %+v", c)
	}
}

func TestWithoutACacheAllIsLoaded(t *testing.T) {
	b := newBench(t, func(c *fold.Config) { c.CacheBytes = -1 }, words{entity: "a"})
	b.process(t, "x 1")
	b.process(t, "x 2")
	if want := [][]string{{"x"}, {"x"}}; !reflect.DeepEqual(b.j.loads, want) {
		t.Errorf("loaded %v, want %v", b.j.loads, want)
	}
}

// The cache is bounded: of many more states than it holds, the latest are there.
func TestRecentStatesAreBounded(t *testing.T) {
	b := newBench(t, func(c *fold.Config) { c.CacheBytes = 20_000 }, words{entity: "a"})
	for i := range 1000 {
		b.process(t, fmt.Sprintf("k%d 1", i))
	}
	b.j.loads = nil
	b.process(t, "k0 2", "k500 2", "k998 2", "k999 2")
	if want := [][]string{{"k0", "k500"}}; !reflect.DeepEqual(b.j.loads, want) {
		t.Errorf("loaded %v, want %v", b.j.loads, want)
	}
	b.process(t, "big "+strings.Repeat("x", 20_000))
	b.process(t, "big y")
	if last := b.j.loads[len(b.j.loads)-1]; !reflect.DeepEqual(last, []string{"big"}) {
		t.Errorf("a state larger than the cache was not loaded again; the last load was %v", last)
	}
}

// follow processes batches until the partition's truth is at its end, claiming anew whenever the sink says so, as a lane does.
func (b *bench) follow(t *testing.T, truth []string, size int) {
	t.Helper()
	for b.next < int64(len(truth)) {
		events := truth[b.next:min(int(b.next)+size, len(truth))]
		batch := b.batch(events...)
		switch err := b.Process(t.Context(), batch); {
		case err == nil:
			b.next = batch.Next
		case errors.Is(err, consumers.ErrFenced), errors.Is(err, consumers.ErrPosition):
			b.claim(t)
		}
	}
}

func (b *bench) claim(t *testing.T) {
	t.Helper()
	next, err := b.Claim(t.Context(), tp)
	if err != nil {
		t.Fatal(err)
	}
	b.next = max(next, 0)
}

// Promise 4: exactly once in effect, with a slow zombie: what another owner has stored meanwhile is not hidden by what this one remembers.
func TestPromise4AnOwnerThatComesBackRemembersNothing(t *testing.T) {
	truth := []string{"x 1", "y 1", "x 2", "y -", "x 3", "y 3", "x 4"}
	for name, comesBack := range map[string]func(*bench){
		"it is refused, and claims":         func(*bench) {},
		"it is given the partition again":   func(b *bench) { b.claim(t) },
		"it had let go, and is given again": func(b *bench) { b.Release(t.Context(), tp); b.claim(t) },
	} {
		t.Run(name, func(t *testing.T) {
			first := newBench(t, nil, words{entity: "a"})
			first.follow(t, truth[:2], 2)
			second := secondOwner(t, first)
			second.follow(t, truth[:4], 1)
			comesBack(first)
			first.follow(t, truth[:6], 2)
			second.follow(t, truth, 3)
			first.wantStates(t, "a", map[string]string{"x": "1234", "y": "3"})
		})
	}
}

// secondOwner claims the partition of a bench for another process on the same store.
func secondOwner(t *testing.T, first *bench) *bench {
	t.Helper()
	j := &journal{Memory: first.j.Memory}
	f, err := fold.New(fold.Config{Sink: j, DeadLetters: j, Projections: []fold.Projection{words{entity: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Fold: f, j: j}
	b.claim(t)
	return b
}

// Promise 4: exactly once in effect after a commit whose answer got lost.
func TestPromise4NothingIsRememberedAfterACommitThatFailed(t *testing.T) {
	for _, done := range []bool{true, false} {
		t.Run(fmt.Sprintf("done=%t", done), func(t *testing.T) {
			b := newBench(t, nil, words{entity: "a"})
			b.process(t, "x 1")
			b.j.failing, b.j.done = errors.New("connection reset"), done
			truth := []string{"x 1", "x 2", "x 3", "x 4"}
			b.follow(t, truth, 2)
			b.wantStates(t, "a", map[string]string{"x": "1234"})
			if loads := len(b.j.loads); loads < 2 {
				t.Errorf("%d loads: the state was not asked for again", loads)
			}
		})
	}
}

func TestReleaseForgets(t *testing.T) {
	b := newBench(t, nil, words{entity: "a"})
	b.process(t, "x 1")
	b.Release(t.Context(), tp)
	b.claim(t)
	b.process(t, "x 2")
	if want := [][]string{{"x"}, {"x"}}; !reflect.DeepEqual(b.j.loads, want) {
		t.Errorf("loaded %v, want %v", b.j.loads, want)
	}
}

// unreliable is a store of several owners whose commits fail now and then, done or not done, and whose loads fail as well.
type unreliable struct {
	*sinktest.Memory
	rnd *rand.Rand
}

var errLost = errors.New("the answer got lost")

func (u *unreliable) Load(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	if u.rnd.IntN(10) == 0 {
		return nil, errLost
	}
	return u.Memory.Load(ctx, entity, keys)
}

func (u *unreliable) Commit(ctx context.Context, c fold.Commit) error {
	switch u.rnd.IntN(6) {
	case 0:
		return errLost
	case 1:
		return errors.Join(errLost, u.Memory.Commit(ctx, c))
	}
	return u.Memory.Commit(ctx, c)
}

func (u *unreliable) Send(context.Context, []consumers.DeadLetter) error {
	if u.rnd.IntN(4) == 0 {
		return errLost
	}
	return nil
}

// Promise 4: exactly once in effect, for random histories of takeovers, zombies, lost answers and caches of any size.
func TestPromise4RandomHistoriesWithRecentStates(t *testing.T) {
	for range 60 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			randomHistory(t, rnd, words{entity: "a"}, func() string { return fmt.Sprint(rnd.IntN(10)) })
		})
	}
}

// randomHistory follows 150 events of a projection; word makes one that says something: what it appends to a state or, behind =, what the state becomes.
func randomHistory(t *testing.T, rnd *rand.Rand, p fold.Projection, next func() string) {
	var truth []string
	model, gone := map[string]string{}, map[string]bool{}
	for range 150 {
		key, word := string(rune('a'+rnd.IntN(8))), next()
		switch rnd.IntN(40) {
		case 0:
			word = "!"
		case 1, 2:
			word = "-"
		case 3:
			word = "?"
		}
		truth = append(truth, key+" "+word)
		switch {
		case gone[key] || word == "?":
		case word == "!":
			gone[key] = true
		case word == "-":
			delete(model, key)
		case word[0] == '=':
			model[key] = word
		default:
			model[key] += word
		}
	}
	u := &unreliable{Memory: sinktest.NewMemory(p), rnd: rnd}
	owners := make([]*bench, 3)
	for i := range owners {
		f, err := fold.New(fold.Config{Sink: u, DeadLetters: u, Projections: []fold.Projection{p}, MaxQuarantinedShare: 1,
			CacheBytes: []int64{-1, 600, 3000, 0}[rnd.IntN(4)]})
		if err != nil {
			t.Fatal(err)
		}
		owners[i] = &bench{Fold: f, j: &journal{Memory: u.Memory}}
		owners[i].claim(t)
	}
	for turns := 0; position(t, u) < int64(len(truth)); turns++ {
		if turns > 100_000 {
			t.Fatal("the history does not end")
		}
		b := owners[rnd.IntN(len(owners))]
		if rnd.IntN(15) == 0 {
			b.claim(t)
		}
		for range 1 + rnd.IntN(8) {
			b.turn(t, truth, rnd)
		}
	}
	owners[0].wantStates(t, "a", model)
}

func position(t *testing.T, s fold.Sink) int64 {
	t.Helper()
	all, err := s.Positions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all[tp]
}

// turn is one batch, as a lane would do it that may have been asleep.
func (b *bench) turn(t *testing.T, truth []string, rnd *rand.Rand) {
	if b.next >= int64(len(truth)) {
		return
	}
	batch := b.batch(truth[b.next:min(int(b.next)+1+rnd.IntN(6), len(truth))]...)
	switch err := b.Process(t.Context(), batch); {
	case err == nil:
		b.next = batch.Next
	case errors.Is(err, consumers.ErrFenced), errors.Is(err, consumers.ErrPosition):
		if rnd.IntN(2) == 0 {
			b.claim(t)
		}
	}
}
