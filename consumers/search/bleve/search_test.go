package bleve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/search"
	"github.com/millrace/millrace/consumers/search/searchtest"
)

// stocked is an index with four widgets, one of them deleted, and a gadget.
func stocked(t testing.TB) *Sink {
	s := open(t, t.TempDir())
	fill(t, s, things, "widget", map[string]fold.Stored{
		"w1": made(1, "Blue Widget", "AB-1", 1),
		"w2": made(2, "Red widget of the IT kind", "AB-2", 2),
		"w3": made(3, "Green thing", "ab-1", 3),
		"w4": made(4, "Blue widget, soon gone", "AB-4", 4),
	})
	fill(t, s, things, "widget", map[string]fold.Stored{"w4": {Version: 5, EventID: "gone", Time: at}})
	fill(t, s, things, "gadget", map[string]fold.Stored{"g1": made(6, "Blue gadget", "AB-1", 9)})
	return s
}

func TestSearchRefusesWhatMatchesTooManyTerms(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	many := make([]any, 3000)
	for half := range 2 {
		state := made(int64(half+1), "w", "s", 1)
		for i := range many {
			many[i] = fmt.Sprintf("word%d", half*len(many)+i)
		}
		state.Values[7] = slices.Clone(many)
		fill(t, s, things, "widget", map[string]fold.Stored{fmt.Sprint("w", half): state})
	}
	if _, err := s.Search(context.Background(), search.Query{Entity: "widget", Text: "word*"}); !errors.Is(err, search.ErrTooExpensive) {
		t.Errorf("got %v", err)
	}
	if res, err := s.Search(context.Background(), search.Query{Entity: "widget", Text: "word299*"}); err != nil || res.Total != 1 {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestSearchHasAnEnd(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	for range cap(s.searches) {
		s.searches <- struct{}{}
	}
	if _, err := s.Search(context.Background(), search.Query{Entity: "widget", Timeout: time.Millisecond}); !errors.Is(err, search.ErrBusy) {
		t.Errorf("with every slot taken: %v", err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Search(gone, search.Query{Entity: "widget"}); !errors.Is(err, context.Canceled) {
		t.Errorf("with nobody waiting: %v", err)
	}
	for range cap(s.searches) {
		<-s.searches
	}
	if _, err := s.Search(context.Background(), search.Query{Entity: "widget", Timeout: time.Nanosecond}); !errors.Is(err, search.ErrTimeout) && !errors.Is(err, search.ErrBusy) {
		t.Errorf("within a nanosecond: %v", err)
	}
}

// FuzzSearch holds that no text makes the index panic, or answer with anything but hits or one of the errors a stranger may get.
func FuzzSearch(f *testing.F) {
	for _, seed := range []string{"", "widget", `"a b" +c -d`, "name:x~2^3", "count:>=-1.5", `made_at:<"2024-01-01T00:00:00Z"`, "a*b?c", "/[/", `\`, `a\`,
		"::", "name::", "+-+-", "^", "~", "a^", "a~", "a~9", "_key:", "sold:T", "\u202e\u0301 \U0001F600", `"\"`, "((((", "name:" + strings.Repeat("a-", 70),
		"-", "+", "_key:w1 -_key:w1", "count:2 name:2", "tags:co?mon", "a:b:c", "price:.", "price:-", "price:1.2.3", "ZZ\xf0", "name:ΑΣ*"} {
		f.Add(seed)
	}
	s := stocked(f)
	f.Fuzz(func(t *testing.T, text string) {
		res, err := s.Search(context.Background(), search.Query{Entity: "widget", Text: text, Timeout: search.MaxTimeout})
		if err != nil {
			if !errors.Is(err, search.ErrBadQuery) && !errors.Is(err, search.ErrTooExpensive) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		for _, h := range res.Hits {
			if !strings.HasPrefix(h.Key, "w") || h.Key == "w4" {
				t.Fatalf("%q finds %q", text, h.Key)
			}
		}
		if _, err := json.Marshal(render(res)); err != nil {
			t.Fatal(err)
		}
	})
}

func render(res *search.Result) any { return res.Hits }

func TestSearch(t *testing.T) {
	t.Parallel()
	searchtest.Run(t, func(t testing.TB, projections ...fold.Projection) (searchtest.Index, func()) {
		return open(t, t.TempDir(), projections...), func() {}
	})
}

func TestSearchRefusesTimesThatTheIndexCannotHold(t *testing.T) {
	t.Parallel()
	_, err := stocked(t).Search(context.Background(), search.Query{Entity: "widget", Text: "made_at:1066-10-14"})
	if !errors.Is(err, search.ErrBadQuery) || !strings.Contains(err.Error(), "outside") {
		t.Errorf("got %v", err)
	}
}
