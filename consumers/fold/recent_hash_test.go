package fold

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/projection"
)

// Promise 4: what is remembered of a key is its last state or nothing, whatever keys share a hash and however often the halves turn.
func TestPromise4RememberedStatesAreTheLastOnes(t *testing.T) {
	n := rand.Uint64()
	t.Logf("seed %d", n)
	rnd := rand.New(rand.NewPCG(n, 0))
	for _, hashes := range []uint64{1, 3, 1 << 40} {
		r := &recent{hash: func(key string) uint64 { return uint64(len(key)*31+int(key[len(key)-1])) % hashes }}
		r.columns = [][]projection.Column{{{Name: "s", Type: projection.Type{Kind: projection.Text}}}, {}}
		r.bare = make([]bool, 2)
		r.limit.Store(3000)
		last, held := map[string]string{}, 0
		for range 20_000 {
			key, text := fmt.Sprintf("k%d", rnd.IntN(40)), fmt.Sprint(make([]byte, rnd.IntN(60)))
			cells := make([]cell, 2)
			if r.fill(key, cells, true) {
				held++
				if got, want := fmt.Sprint(cells[0].Values, cells[0].Version, cells[0].EventID, cells[1].known), last[key]; got != want {
					t.Fatalf("%s is remembered as %s, and was %s", key, got, want)
				}
			}
			c := cell{known: true, Stored: Stored{State: projection.State{Exists: true, Values: []any{text}}, Version: rnd.Int64(), EventID: key, Time: time.Unix(1, 5).UTC()}}
			r.take(&work{projections: make([]Projection, 2), keys: []string{key}, cells: []cell{c, {}}})
			last[key] = fmt.Sprint(c.Values, c.Version, c.EventID, false)
		}
		if held == 0 {
			t.Error("nothing was remembered")
		}
	}
}
