package opensearch

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/big"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
	"github.com/millrace/millrace/consumers/search/searchtest"
	"github.com/millrace/millrace/test/harness"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	url := harness.OpenSearch(t)
	searchtest.Run(t, func(t testing.TB, projections ...fold.Projection) (searchtest.Index, func()) {
		s := open(t, Config{URL: url, Prefix: unique(t, url), Projections: projections, Logger: slog.New(slog.DiscardHandler)})
		return s, func() { refresh(t, s) }
	})
}

// Money stays exact, and so do numbers that a double cannot tell apart.
func TestSearchComparesAndSortsExactly(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.claim()
	put := func(version, n int64, amount string) fold.Stored {
		s := state(version, "x")
		s.Values[2] = n
		x, ok := new(big.Rat).SetString(amount)
		if !ok {
			t.Fatal(amount)
		}
		s.Values[3] = x
		return s
	}
	r.commit(batch(0, 5,
		"a", put(1, 1<<53, "0.1"),
		"b", put(2, 1<<53+1, "0.100000000000000001"),
		"c", put(3, math.MaxInt64, "99999999999999999999.999999999999999999"),
		"d", put(4, math.MinInt64, "-99999999999999999999.999999999999999999"),
		"e", put(5, -7, "-0.000000000000000001")))
	for text, want := range map[string]string{
		"amount:0.1":                          "a",
		"amount:0.100000000000000001":         "b",
		"amount:>0.1":                         "b c",
		"amount:>=0.1":                        "a b c",
		"amount:<0.1":                         "d e",
		"amount:<=0.1":                        "a d e",
		"amount:<0":                           "d e",
		"amount:>=0":                          "a b c",
		"amount:<" + strings.Repeat("9", 30):  "a b c d e",
		"amount:>" + strings.Repeat("9", 30):  "",
		"amount:>" + strings.Repeat("9", 200): "",
		"amount:>-" + strings.Repeat("9", 90): "a b c d e",
		"amount:0.1000000000000000001":        "",
		"n:9007199254740992":                  "a",
		"n:9007199254740993":                  "b",
		"n:>0":                                "a b c",
		"n:<-6.5":                             "d e",
		"amount:1e999999999":                  "refused",
		"amount:1e-999999999":                 "",
		`n:9007199254740993 amount:0.1`:       "a b",
	} {
		refresh(t, r.Sink)
		res, err := r.Search(t.Context(), search.Query{Entity: "item", Text: text, Sort: []string{"_key"}, Timeout: search.MaxTimeout})
		if want == "refused" {
			if !errors.Is(err, search.ErrBadQuery) {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		r.want(text, hitKeys(res), want)
	}
	for by, want := range map[string]string{"amount": "d e a b c", "-amount": "c b a e d", "n": "d e a b c", "-n": "c b a e d"} {
		res, err := r.Search(t.Context(), search.Query{Entity: "item", Sort: []string{by}, Timeout: search.MaxTimeout})
		if err != nil {
			t.Fatal(err)
		}
		r.want(by, hitKeys(res), want)
	}
}

func hitKeys(res *search.Result) string {
	var out []string
	for _, h := range res.Hits {
		out = append(out, h.Key)
	}
	return strings.Join(out, " ")
}

// The sortable form compares as the numbers do.
func TestSortable(t *testing.T) {
	t.Parallel()
	typ := projection.Type{Kind: projection.Decimal, Precision: 25, Scale: 6}
	holds := func(a, b int64, shift uint8) bool {
		x, y := big.NewRat(a, 1_000_000), big.NewRat(b>>(shift%63), 1_000_000)
		one, exact := sortable(typ, x)
		two, exactToo := sortable(typ, y)
		return exact && exactToo && strings.Compare(one, two) == x.Cmp(y) && belowAll < one && one < aboveAll
	}
	if err := quick.Check(holds, nil); err != nil {
		t.Error(err)
	}
	if text, exact := sortable(typ, big.NewRat(1, 3)); exact || text != "1"+strings.Repeat("0", 19)+"333333" {
		t.Errorf("a third is %s, %t", text, exact)
	}
	if text, exact := sortable(typ, big.NewRat(-1, 3)); exact || text != "0"+strings.Repeat("9", 19)+"666665" {
		t.Errorf("less a third is %s, %t", text, exact)
	}
}

func TestSearchHasAnEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for range cap(r.searches) {
		r.searches <- struct{}{}
	}
	if _, err := r.Search(t.Context(), search.Query{Entity: "item", Timeout: time.Millisecond}); !errors.Is(err, search.ErrBusy) {
		t.Errorf("with every slot taken: %v", err)
	}
	for range cap(r.searches) {
		<-r.searches
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Search(gone, search.Query{Entity: "item"}); !errors.Is(err, context.Canceled) {
		t.Errorf("with nobody waiting: %v", err)
	}
	if _, err := r.Search(t.Context(), search.Query{Entity: "item", Timeout: time.Nanosecond}); !errors.Is(err, search.ErrTimeout) && !errors.Is(err, search.ErrBusy) {
		t.Errorf("within a nanosecond: %v", err)
	}
}
