package opensearch

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/fold"
)

// A document that a stranger has changed or removed has a version that is no event's: the next event of its key is written all the same, and one that was there before stays.
func TestPromise4AStrangersVersionKeepsNoEventOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.claim()
	r.commit(batch(0, 3, "a", state(1, "one"), "b", state(2, "two"), "c", state(3, "three")))
	index := path(r.layouts["item"].index)
	for range 3 {
		r.strange(http.MethodPost, index+"/_update/a", object{"doc": object{"sku": "strange"}}) // its version is 4 in the end
	}
	r.strange(http.MethodDelete, index+"/_doc/b", nil)
	r.commit(batch(3, 4, "a", state(2, "next"), "b", state(3, "next"), "c", state(3, "again")))
	r.want("versions", r.versions("a", "b", "c"), "a:2 b:3 c:3")
	r.want("found", r.finds("sku:next")+"/"+r.finds("sku:three")+"/"+r.finds("sku:strange"), "a b/c/")
	r.commit(batch(4, 5, "a", state(2, "repeated"), "b", state(1, "older"))) // what was applied before changes nothing
	r.want("versions", r.versions("a", "b"), "a:2 b:3")
	r.want("found", r.finds("sku:repeated")+"/"+r.finds("sku:older"), "/")
	if !strings.Contains(r.log.String(), "somebody who is not the sink") {
		t.Error("nothing is said of it")
	}
}

func (r *rig) strange(method, path string, body any) {
	r.t.Helper()
	if err := r.client.call(r.t.Context(), method, path, body, nil); err != nil {
		r.t.Fatal(err)
	}
}

// What is shown of a document is what stands in its columns; the state beside it is what the next event is applied to.
func TestWhatIsShownIsWhatReadersSee(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.claim()
	r.commit(batch(0, 4, "a", state(1, "one"), "b", state(2, "two"), "c", state(3, "three"), "d", state(4, "four")))
	index := path(r.layouts["item"].index)
	r.strange(http.MethodPost, index+"/_update/a", object{"doc": object{"sku": "strange"}})
	r.strange(http.MethodPost, index+"/_update/b", object{"doc": object{liveField: false}})
	r.strange(http.MethodPost, index+"/_update/c", object{"doc": object{liveField: true, "sku": "three"}, "detect_noop": false}) // written in another way, and the same
	ctx := context.Background()
	for what, read := range map[string]func() (map[string]fold.Stored, error){
		"snapshot": func() (map[string]fold.Stored, error) { return r.statesOf(ctx) },
		"shown":    func() (map[string]fold.Stored, error) { return r.Shown(ctx, "item", []string{"a", "b", "c", "d", "e"}) },
	} {
		got, err := read()
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 4 || got["a"].Values[1] != "strange" || got["b"].Exists || got["c"].Values[1] != "three" || got["d"].Values[1] != "four" || got["a"].Version != 1 {
			t.Errorf("%s: %+v", what, got)
		}
	}
	r.want("loaded", r.versions("a", "b", "c"), "a:1 b:2 c:3")
}

// A document that a stranger has put in the place of the sink's holds no state: it is shown as it stands there, without a version, keeps nobody from what stands beside it, and gives way to
// the next event, and to a repair.
func TestADocumentWithoutAStateIsAStrangers(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.claim()
	r.commit(batch(0, 4, "a", state(1, "one"), "b", state(2, "two"), "c", state(3, "three"), "d", state(4, "four")))
	index := path(r.layouts["item"].index)
	r.strange(http.MethodPut, index+"/_doc/a", object{liveField: true, "sku": "strange"})
	r.strange(http.MethodPut, index+"/_doc/b", object{liveField: true, keyField: "b", stateField: "bm9uZQ==", "sku": "strange"})
	r.strange(http.MethodPut, index+"/_doc/e", object{liveField: true, "sku": "stray"})
	r.want("found", r.finds("sku:strange")+"/"+r.finds("sku:three"), "/c")
	ctx := context.Background()
	for what, read := range map[string]func() (map[string]fold.Stored, error){
		"snapshot": func() (map[string]fold.Stored, error) { return r.statesOf(ctx) },
		"shown":    func() (map[string]fold.Stored, error) { return r.Shown(ctx, "item", []string{"a", "b", "c", "d", "e"}) },
	} {
		got, err := read()
		if err != nil {
			t.Fatal(what, err)
		}
		for key, sku := range map[string]string{"a": "strange", "b": "strange", "c": "three", "d": "four", "e": "stray"} {
			if st := got[key]; !st.Exists || st.Values[1] != sku || (st.Version == 0) != strings.HasPrefix(sku, "str") {
				t.Errorf("%s: %s is %+v", what, key, st)
			}
		}
	}
	r.commit(batch(4, 5, "a", state(5, "next")))
	again := batch(5, 5, "b", state(2, "two"), "e", fold.Stored{}) // a repair; of e there is no event
	again.Replace = true
	r.commit(again)
	r.want("versions", r.versions("a", "b", "e"), "a:5 b:2 e:-0")
	r.want("found", r.finds("sku:next")+"/"+r.finds("sku:two")+"/"+r.finds("sku:strange")+"/"+r.finds("sku:stray"), "a/b//")
}

func (r *rig) statesOf(ctx context.Context) (map[string]fold.Stored, error) {
	snap, err := r.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = snap.Close() }()
	out := map[string]fold.Stored{}
	err = snap.States(ctx, "item", func(key string, s fold.Stored) error { out[key] = s; return nil })
	return out, err
}

func TestSameJSON(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{`1.50`, `1.5`}: true, {`1e2`, `100`}: true, {`100`, `101`}: false, {`"1"`, `1`}: false, {`null`, ``}: true, {`[1.0, "a"]`, `[1,"a"]`}: true,
		{`{"b":1,"a":2.0}`, `{"a":2,"b":1}`}: true, {`{"a":1}`, `{}`}: false, {`1e999999999`, `1e999999998`}: false, {`0.1`, `0.10000000000000000001`}: false,
	} {
		a, b := json.RawMessage(pair[0]), json.RawMessage(pair[1])
		if pair[1] == "" {
			b = nil
		}
		if sameJSON(a, b) != want || sameJSON(b, a) != want {
			t.Errorf("%s and %s: want %t", pair[0], pair[1], want)
		}
	}
}
