package projection_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/millrace/millrace/consumers/projection"
)

// An event that overwrites makes the same of any state, of one whose values are not at hand as well.
func TestAnEventOverwritesIfNoColumnComesFromTheStateBefore(t *testing.T) {
	for name, c := range map[string]struct {
		text       string
		overwrites bool
	}{
		"every column":           {"on: {bank.Opened: {set: {owner: event.owner, note: event.note}}}\n", true},
		"constants as well":      {"on: {bank.Opened: {set: {owner: event.owner, open: true}}}\n", true},
		"deleted":                {"on: {bank.Opened: {delete: true}, bank.Deposited: {set: {memo: event.memo}}}\n", true},
		"a column stays":         {"on: {bank.Opened: {set: {owner: event.owner}}, bank.Deposited: {set: {memo: event.memo}}}\n", false},
		"a column is counted up": {"columns: {n: int}\non: {bank.Opened: {set: {owner: event.owner, n: \"has(state.n) ? 1 : 0\"}}}\n", false},
		"cache keys of the key":  {"on: {bank.Opened: {set: {owner: event.owner}}}\ncache: {keys: [\"'o:' + key\"]}\n", true},
		"cache keys of a state":  {"on: {bank.Opened: {set: {owner: event.owner}}}\ncache: {keys: [\"'o:' + key\", \"'by:' + state.owner\"]}\n", false},
		"the version of a row":   {"on: {bank.Opened: {set: {owner: event.owner, row: version}}}\ncache: {version: row}\n", false},
	} {
		p, err := parse(t, c.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := p.Overwrites("bank.Opened"); got != c.overwrites {
			t.Errorf("%s: overwrites is %v", name, got)
		}
		if p.Overwrites("bank.Closed") {
			t.Errorf("%s: an event that the declaration does not name overwrites", name)
		}
		if !c.overwrites {
			continue
		}
		want, err := p.Fold(projection.State{}, opened(1))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Fold(projection.State{Exists: true}, opened(1)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: over a state without values it makes %v, over none %v: %v", name, got, want, err)
		}
		keys, err := p.CacheKeys("a-1", want)
		if got, errBare := p.CacheKeys("a-1", projection.State{Exists: want.Exists}); err != nil || errBare != nil || !slices.Equal(got, keys) {
			t.Errorf("%s: the cache keys of a state without values are %v, with them %v: %v, %v", name, got, keys, errBare, err)
		}
	}
}
