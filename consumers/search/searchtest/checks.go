package searchtest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
)

func checkFinds(t *testing.T, s Index) {
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

func checkRefuses(t *testing.T, s Index) {
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

func checkOrder(t *testing.T, s Index) {
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
}

func checkExact(t *testing.T, s Index) {
	res, err := s.Search(context.Background(), search.Query{Entity: "widget", Text: "_key:w1"})
	if err != nil || len(res.Hits) != 1 {
		t.Fatal(res, err)
	}
	got, err := json.Marshal(res.Hits[0].Fields)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(projection.Document(things("").Columns(), made(1, "Blue Widget", "AB-1", 1).Values))
	if err != nil || string(got) != string(want) || res.Hits[0].Version != 1 {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	res, err = s.Search(context.Background(), search.Query{Entity: "widget", Size: -1})
	if err != nil || res.Total != 3 || len(res.Hits) != 0 {
		t.Errorf("only the total: %+v, %v", res, err)
	}
}
