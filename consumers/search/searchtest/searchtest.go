// Package searchtest holds what every search backend answers: the same documents to the same words, in the same order, and the same
// refusals.
//
//	func TestSearch(t *testing.T) {
//		searchtest.Run(t, func(t testing.TB, projections ...fold.Projection) (searchtest.Index, func()) { … })
//	}
package searchtest

import (
	"context"
	"math/big"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
)

// Index is a backend: a sink that answers.
type Index interface {
	fold.Sink
	search.Searcher
}

// Run checks a backend. open returns an empty one that holds the projections, and what makes it answer with all that was committed.
func Run(t *testing.T, open func(t testing.TB, projections ...fold.Projection) (ix Index, refresh func())) {
	t.Helper()
	ix, refresh := open(t, things("widget"), things("gadget"))
	stock(t, ix)
	refresh()
	for _, check := range []struct {
		name string
		run  func(*testing.T, Index)
	}{{"finds", checkFinds}, {"refuses", checkRefuses}, {"sorts and pages", checkOrder}, {"answers exactly", checkExact}} {
		t.Run(check.name, func(t *testing.T) { check.run(t, ix) })
	}
}

// things is a projection whose columns have every kind. The suite makes its states itself.
type things string

func (e things) Entity() string { return string(e) }
func (e things) Topic() string  { return "things" }
func (e things) Digest() string { return "searchtest-1" }

func (e things) Columns() []projection.Column {
	col := func(name string, k projection.Kind) projection.Column {
		return projection.Column{Name: name, Type: projection.Type{Kind: k}}
	}
	return []projection.Column{
		col("name", projection.Text),
		col("sku", projection.Text),
		col("count", projection.Int),
		{Name: "price", Type: projection.Type{Kind: projection.Decimal, Precision: 12, Scale: 2}},
		col("made_at", projection.Timestamp),
		col("day", projection.Date),
		col("sold", projection.Bool),
		{Name: "tags", Type: projection.Type{Kind: projection.List, Elem: &projection.Type{Kind: projection.Text}}},
		col("extra", projection.JSON),
		col("weight", projection.Float),
		col("raw", projection.Bytes),
		col("took", projection.Duration),
	}
}

// SearchFields says which texts are keywords.
func (e things) SearchFields() projection.Search { return projection.Search{Keyword: []string{"sku"}} }

func (e things) Fold(prev projection.State, _ *consumers.Event) (projection.State, error) {
	return prev, nil
}

func (e things) CacheKeys(string, projection.State) ([]string, error) { return nil, nil }

var (
	at   = time.Date(2024, 3, 1, 12, 30, 0, 123456000, time.UTC)
	part = consumers.TopicPartition{Topic: "things", Partition: 3}
)

// made is a state; name, sku and count tell them apart.
func made(version int64, name, sku string, count int64) fold.Stored {
	return fold.Stored{
		Version: version, EventID: "e", Time: at,
		State: projection.State{Exists: true, Values: []any{
			name, sku, count, big.NewRat(1999*count, 100), at.AddDate(0, 0, int(count)), at.Truncate(24 * time.Hour), count%2 == 0,
			[]any{"tag" + string(rune('0'+count)), "common"}, map[string]any{"a": []any{int64(1), nil}}, 1.5, []byte{0, 255}, 90 * time.Second,
		}},
	}
}

// stock puts in four widgets, one of which is deleted then, and a gadget.
func stock(t *testing.T, ix Index) {
	t.Helper()
	put := func(from int64, entity string, states map[string]fold.Stored) {
		t.Helper()
		c, err := ix.Claim(context.Background(), part)
		if err != nil {
			t.Fatal(err)
		}
		commit := fold.Commit{TopicPartition: part, Epoch: c.Epoch, From: from, Next: from + 10, Changes: map[string][]fold.Change{}}
		for key, s := range states {
			commit.Changes[entity] = append(commit.Changes[entity], fold.Change{Key: key, Stored: s})
		}
		if err := ix.Commit(context.Background(), commit); err != nil {
			t.Fatal(err)
		}
	}
	put(0, "widget", map[string]fold.Stored{
		"w1": made(1, "Blue Widget", "AB-1", 1),
		"w2": made(2, "Red widget of the IT kind", "AB-2", 2),
		"w3": made(3, "Green thing", "ab-1", 3),
		"w4": made(4, "Blue widget, soon gone", "AB-4", 4),
	})
	put(10, "widget", map[string]fold.Stored{"w4": {Version: 5, EventID: "gone", Time: at}})
	put(20, "gadget", map[string]fold.Stored{"g1": made(6, "Blue gadget", "AB-1", 9)})
}
