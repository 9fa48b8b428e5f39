package sinktest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

func list(elem projection.Type) projection.Type {
	return projection.Type{Kind: projection.List, Elem: &elem}
}

// wideColumns has every kind.
var wideColumns = []projection.Column{
	{Name: "bool", Type: projection.Type{Kind: projection.Bool}},
	{Name: "int", Type: projection.Type{Kind: projection.Int}},
	{Name: "float", Type: projection.Type{Kind: projection.Float}},
	{Name: "text", Type: projection.Type{Kind: projection.Text}},
	{Name: "bytes", Type: projection.Type{Kind: projection.Bytes}},
	{Name: "date", Type: projection.Type{Kind: projection.Date}},
	{Name: "timestamp", Type: projection.Type{Kind: projection.Timestamp}},
	{Name: "duration", Type: projection.Type{Kind: projection.Duration}},
	{Name: "money", Type: projection.Type{Kind: projection.Decimal, Precision: 12, Scale: 2}},
	{Name: "decimal", Type: projection.Type{Kind: projection.Decimal, Precision: 38, Scale: 18}},
	{Name: "texts", Type: list(projection.Type{Kind: projection.Text})},
	{Name: "ints", Type: list(projection.Type{Kind: projection.Int})},
	{Name: "amounts", Type: list(projection.Type{Kind: projection.Decimal, Precision: 12, Scale: 2})},
	{Name: "times", Type: list(projection.Type{Kind: projection.Timestamp})},
	{Name: "lists", Type: list(list(projection.Type{Kind: projection.Text}))},
	{Name: "json", Type: projection.Type{Kind: projection.JSON}},
}

// wideValues are the values that each column must keep, by name of the column. Null comes with every column.
var wideValues = map[string][]any{
	"bool":      {true, false},
	"int":       {int64(0), int64(-1), int64(math.MaxInt64), int64(math.MinInt64), int64(1)<<53 + 1},
	"float":     {0.0, math.Copysign(0, -1), 0.1, -1.5, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN()},
	"text":      {"", " ", "null", "größer ≥ 🌾", "line\nfeed\ttab\r", `quote ' " \`, "nul \x00 inside", "e\u0301", strings.Repeat("x", 100_000)},
	"bytes":     {[]byte{}, []byte{0}, []byte("\xff\x00\xfe not UTF-8"), []byte(strings.Repeat("\x80", 10_000))},
	"date":      {day(1970, 1, 1), day(1969, 12, 31), day(1, 1, 1), day(1900, 2, 28), day(2024, 2, 29), day(9999, 12, 31)},
	"timestamp": {micro(1970, 1, 1, 0), micro(1969, 12, 31, 86399_999999), micro(1, 1, 1, 0), micro(2026, 3, 29, 3600_000001), micro(9999, 12, 31, 86399_999999)},
	"duration":  {time.Duration(0), time.Microsecond, -time.Microsecond, 24*time.Hour - time.Microsecond, 1000 * time.Hour},
	"money":     {rat("0"), rat("0.01"), rat("-0.01"), rat("9999999999.99"), rat("-9999999999.99"), rat("12.50")},
	"decimal":   {rat("0.000000000000000001"), rat("99999999999999999999.999999999999999999"), rat("-99999999999999999999.999999999999999999")},
	"texts":     {[]any{}, []any{""}, []any{"a", nil, "ü,\"'{}[]"}, []any{nil}},
	"ints":      {[]any{}, []any{int64(math.MaxInt64), nil, int64(math.MinInt64)}},
	"amounts":   {[]any{rat("0.10"), nil, rat("-9999999999.99")}},
	"times":     {[]any{micro(1969, 12, 31, 1), nil}},
	"lists":     {[]any{}, []any{[]any{}}, []any{[]any{"a", nil}, nil, []any{"b"}}},
	"json": {
		map[string]any{}, []any{}, "text", int64(1)<<53 + 1, 1.0, true,
		map[string]any{
			"street": "Mühlgasse 1", "none": nil, "big": int64(math.MaxInt64), "half": 0.5, "whole": 2.0, "raw": []byte{0, 255},
			"when": micro(2026, 3, 29, 3600_000001), "price": rat("0.10"), "took": 1500 * time.Microsecond,
			"lines": []any{map[string]any{"sku": "x-1", "tags": []any{"a", nil}}, map[string]any{}},
		},
	},
}

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

func micro(y int, m time.Month, d int, micros int64) time.Time {
	return day(y, m, d).Add(time.Duration(micros) * time.Microsecond)
}

func rat(s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic("sinktest: not a number: " + s)
	}
	return r
}

func valueChecks() []check {
	all := []check{one("null in every column", func(t testing.TB, b Backend) { checkValues(t, b, "text", []any{nil}) })}
	for _, c := range wideColumns {
		all = append(all, one("values of "+c.Name, func(t testing.TB, b Backend) { checkValues(t, b, c.Name, wideValues[c.Name]) }))
	}
	return append(all, one("values are replaced by null and back", checkReplace))
}

// wide is a row that is null but for one column.
func wide(column string, v any, offset int64) fold.Stored {
	s := fold.Stored{Version: offset + 1, EventID: fmt.Sprintf("e%d", offset), Time: at(offset + 1)}
	s.Exists, s.Values = true, make([]any, len(wideColumns))
	s.Values[slices.IndexFunc(wideColumns, func(c projection.Column) bool { return c.Name == column })] = v
	return s
}

func checkValues(t testing.TB, b Backend, column string, values []any) {
	s := open(t, b)
	c := claim(t, s, wide0)
	want := map[string]fold.Stored{}
	var keys []string
	var changes []fold.Change
	for i, v := range values {
		k := fmt.Sprintf("%s-%02d", column, i)
		want[k] = wide(column, v, int64(i))
		keys, changes = append(keys, k), append(changes, fold.Change{Key: k, Stored: want[k]})
	}
	store := fold.Commit{TopicPartition: wide0, Epoch: c.Epoch, From: 0, Next: int64(len(values)), Changes: map[string][]fold.Change{EntityWide: sorted(changes)}}
	if err := s.Commit(context.Background(), store); err != nil {
		t.Fatalf("commit values of column %q: %v", column, err)
	}
	wantStates(t, "load", load(t, s, EntityWide, keys...), want)
	s = open(t, b)
	wantStates(t, "load after a restart", load(t, s, EntityWide, keys...), want)
	wantStates(t, "readers", b.Dump(t, EntityWide), want)
}

func checkReplace(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, wide0)
	for i, v := range []any{"first", nil, "", nil, "last"} {
		o := int64(i)
		row := wide("text", v, o)
		commit(t, s, fold.Commit{TopicPartition: wide0, Epoch: c.Epoch, From: o, Next: o + 1, Changes: map[string][]fold.Change{
			EntityWide: {{Key: "k", Stored: row, Existed: i > 0}},
		}})
		wantStates(t, fmt.Sprintf("load after change %d", i), load(t, s, EntityWide, "k"), map[string]fold.Stored{"k": row})
	}
}

// sorted puts changes in order of key, as a Commit has them.
func sorted(changes []fold.Change) []fold.Change {
	slices.SortFunc(changes, func(a, b fold.Change) int { return cmp.Compare(a.Key, b.Key) })
	return changes
}
