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
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
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

func TestSearchFinds(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	for text, want := range map[string]string{
		"":                          "w1 w2 w3",
		"*":                         "w1 w2 w3",
		"widget":                    "w1 w2",
		"WIDGET thing":              "w1 w2 w3",
		"+widget -red":              "w1",
		"+widget +nosuchword":       "",
		"-red":                      "w1 w3",
		"+count:>100 -red":          "",
		`"blue widget"`:             "w1",
		`"widget blue"`:             "",
		"it":                        "w2",
		"name:blue":                 "w1",
		"name:widg*":                "w1 w2",
		"name:Wi?get":               "w1 w2",
		"name:wigdet~2":             "w1 w2",
		"sku:AB-1":                  "w1",
		"sku:ab-1":                  "w3",
		"sku:AB*":                   "w1 w2",
		"ab-1":                      "w1 w3",
		"1-ab":                      "",
		"count:2":                   "w2",
		"count:>=2":                 "w2 w3",
		"price:19.99":               "w1",
		"+price:>20 +price:<50":     "w2",
		"weight:1.5":                "w1 w2 w3",
		"took:90":                   "w1 w2 w3",
		"sold:true":                 "w2",
		"made_at:2024-03-03":        "w2",
		`made_at:>"2024-03-03"`:     "w2 w3",
		`day:<="2024-03-01"`:        "w1 w2 w3",
		"day:2024-03-01":            "w1 w2 w3",
		"day:2024-03-02":            "",
		"tags:tag3":                 "w3",
		"common":                    "w1 w2 w3",
		"_key:w2":                   "w2",
		"w3":                        "w3",
		"_key:w4":                   "",
		"blue^3 green":              "w1 w3",
		"+,":                        "",
		"name:blue count:3":         "w1 w3",
		"gone":                      "",
		"gadget":                    "",
		"+name:blue +count:1 thing": "w1",
	} {
		res, err := s.Search(context.Background(), search.Query{Entity: "widget", Text: text})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var got []string
		for _, h := range res.Hits {
			got = append(got, h.Key)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want || int(res.Total) != len(got) {
			t.Errorf("%q finds %v (total %d), want %s", text, got, res.Total, want)
		}
	}
}

func TestSearchRefuses(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	for text, reason := range map[string]string{
		"nosuch:1":                           `no field "nosuch"`,
		"extra:1":                            "not searched",
		"raw:1":                              "not searched",
		"count:many":                         "holds numbers",
		"name:>3":                            "no numbers",
		"sold:perhaps":                       "true or false",
		"made_at:yesterday":                  "holds times",
		`count:>"2024-01-01"`:                "holds no times",
		"count:1*":                           "holds no text",
		"name:*":                             "before a wildcard",
		"name:a*":                            "before a wildcard",
		"*dget":                              "before a wildcard",
		"/wid.*/":                            "regular expressions",
		"name:/(a+)+/":                       "regular expressions",
		"widget~3":                           "errors in a word",
		strings.Repeat("a b ", 40):           "more than 64 words",
		strings.Repeat("a-", 100):            "more than 64 words",
		"wi" + strings.Repeat("?x", 100):     "at most 64 bytes",
		strings.Repeat("x", 5000):            "5000 bytes",
		`"unfinished`:                        "",
		"name:":                              "",
		"a\x00b":                             "UTF-8",
		"\xff":                               "UTF-8",
		"made_at:1066-10-14":                 "outside",
		strings.Repeat("y", 100) + "~1":      "errors in a word",
		"count:1e999":                        "",
		`made_at:>"99999999-01-01T00:00:00"`: "",
	} {
		_, err := s.Search(context.Background(), search.Query{Entity: "widget", Text: text})
		if !errors.Is(err, search.ErrBadQuery) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.40q: %v, want %q", text, err, reason)
		}
	}
	for _, q := range []search.Query{{}, {Entity: "widget", Size: 1001}, {Entity: "widget", From: 9999}, {Entity: "widget", From: -1},
		{Entity: "widget", Timeout: time.Hour}, {Entity: "widget", Sort: []string{"name"}}, {Entity: "widget", Sort: []string{"-nosuch"}},
		{Entity: "widget", Sort: []string{"a", "b", "c", "d", "e"}}} {
		if _, err := s.Search(context.Background(), q); !errors.Is(err, search.ErrBadQuery) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if _, err := s.Search(context.Background(), search.Query{Entity: "order"}); !errors.Is(err, search.ErrUnknownEntity) {
		t.Errorf("an unknown entity: %v", err)
	}
}

func TestSearchSortsPagesAndRendersExactly(t *testing.T) {
	t.Parallel()
	s := stocked(t)
	for by, want := range map[string]string{
		"count": "w1 w2 w3", "-count": "w3 w2 w1", "-made_at": "w3 w2 w1", "sku": "w1 w2 w3", "-_key": "w3 w2 w1",
		"sold": "w1 w3 w2", "-sold": "w2 w1 w3", "_score": "w1 w2 w3", "-price": "w3 w2 w1", "day": "w1 w2 w3",
	} {
		var got []string
		for from := 0; from < 3; from++ {
			res, err := s.Search(context.Background(), search.Query{Entity: "widget", Sort: []string{by}, Size: 1, From: from})
			if err != nil {
				t.Fatal(err)
			}
			if res.Total != 3 || len(res.Hits) != 1 {
				t.Fatalf("page %d by %s: %+v", from, by, res)
			}
			got = append(got, res.Hits[0].Key)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("by %s: %v, want %s", by, got, want)
		}
	}
	res, err := s.Search(context.Background(), search.Query{Entity: "widget", Text: "_key:w1"})
	if err != nil || len(res.Hits) != 1 {
		t.Fatal(res, err)
	}
	got, err := json.Marshal(res.Hits[0].Fields)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(projection.Document(widget.Columns(), made(1, "Blue Widget", "AB-1", 1).Values))
	if err != nil || string(got) != string(want) || res.Hits[0].Version != 1 {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	res, err = s.Search(context.Background(), search.Query{Entity: "widget", Size: -1})
	if err != nil || res.Total != 3 || len(res.Hits) != 0 {
		t.Errorf("only the total: %+v, %v", res, err)
	}
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
