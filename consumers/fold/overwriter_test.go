package fold_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// setter is words whose events of type Set, those that begin with =, leave nothing of what was before. Others need it.
type setter struct{ words }

func (setter) EventTypes() []string                                        { return []string{"Set"} }
func (setter) Overwrites(eventType string) bool                            { return eventType == "Set" }
func (setter) CacheKeys(string, projection.State) (keys []string, _ error) { return nil, nil }

func (s setter) Fold(prev projection.State, ev *consumers.Event) (projection.State, error) {
	if word := ev.Fields()["word"].(string); ev.Type == "Set" {
		return projection.State{Exists: true, Values: []any{word}}, nil
	}
	return s.words.Fold(prev, ev)
}

// Promise 4: an event that overwrites needs no state to be loaded, and what needs one gets it whole.
func TestPromise4OnlyVersionsAreRememberedOfWhatIsOverwritten(t *testing.T) {
	b := newBench(t, nil, setter{words{entity: "a"}})
	b.process(t, "x =1", "y =1")
	b.process(t, "x =2", "y =2")
	b.process(t, "x =3", "y 4") // y is loaded, and states are remembered from here on
	b.process(t, "x =5", "y =6")
	b.process(t, "x 7", "y 8")
	b.wantStates(t, "a", map[string]string{"x": "=57", "y": "=68"})
	if want := [][]string{{"x", "y"}, {"y"}}; !reflect.DeepEqual(b.j.loads, want) {
		t.Errorf("loaded %v, want %v", b.j.loads, want)
	}
}

// One that overwrites with each of its events is remembered in a fraction of the room.
func TestVersionsTakeLessRoomThanStates(t *testing.T) {
	loads := func(p fold.Projection) (n int) {
		b := newBench(t, func(c *fold.Config) { c.CacheBytes = 40_000 }, p)
		for range 2 {
			for i := range 200 {
				b.process(t, fmt.Sprintf("k%d =%0200d", i, i))
			}
		}
		return len(b.j.loads)
	}
	if n := loads(setter{words{entity: "a"}}); n != 200 {
		t.Errorf("%d loads for 200 keys seen twice", n)
	}
	if n := loads(words{entity: "a"}); n <= 300 {
		t.Errorf("%d loads where states are remembered: there is room for too many", n)
	}
}

// Promise 4: exactly once in effect, whether an event needs the state before it or not.
func TestPromise4RandomHistoriesOfEventsThatOverwrite(t *testing.T) {
	for range 60 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			randomHistory(t, rnd, setter{words{entity: "a"}}, func() string {
				return []string{"=", "=", "=", ""}[rnd.IntN(4)] + fmt.Sprint(rnd.IntN(10))
			})
		})
	}
}
