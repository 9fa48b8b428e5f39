package sinktest

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/fold"
)

// wantStates fails the check where got is not want.
func wantStates(t testing.TB, what string, got, want map[string]fold.Stored) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[key]
		if !ok {
			t.Errorf("%s: key %q is absent, want %s", what, key, show(want[key]))
			continue
		}
		if d := differ(g, want[key]); d != "" {
			t.Errorf("%s: key %q: %s\n got %s\nwant %s", what, key, d, show(g), show(want[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			t.Errorf("%s: key %q is there, want none: %s", what, key, show(got[key]))
		}
	}
}

// differ says in what two stored states differ; empty if they are equal.
func differ(got, want fold.Stored) string {
	switch {
	case got.Exists != want.Exists:
		return fmt.Sprintf("exists is %t", got.Exists)
	case got.Version != want.Version:
		return fmt.Sprintf("version is %d", got.Version)
	case got.EventID != want.EventID:
		return fmt.Sprintf("event id is %q", got.EventID)
	case !got.Time.Equal(want.Time):
		return fmt.Sprintf("time is %s", got.Time)
	case !want.Exists:
		return ""
	case len(got.Values) != len(want.Values):
		return fmt.Sprintf("%d values", len(got.Values))
	}
	for i := range want.Values {
		if !equal(got.Values[i], want.Values[i]) {
			return fmt.Sprintf("value %d is %s, want %s", i, showValue(got.Values[i]), showValue(want.Values[i]))
		}
	}
	return ""
}

// equal compares two values of a state: the same Go type, the same value; not-a-number equals itself, times by instant in UTC.
func equal(got, want any) bool {
	switch w := want.(type) {
	case nil:
		return got == nil
	case float64:
		g, ok := got.(float64)
		return ok && (math.Float64bits(g) == math.Float64bits(w) || g != g && w != w)
	case []byte:
		g, ok := got.([]byte)
		return ok && g != nil && bytes.Equal(g, w)
	case time.Time:
		g, ok := got.(time.Time)
		return ok && g.Equal(w) && g.Location() == time.UTC
	case *big.Rat:
		g, ok := got.(*big.Rat)
		return ok && g != nil && g.Cmp(w) == 0
	case []any:
		g, ok := got.([]any)
		return ok && g != nil && slices.EqualFunc(g, w, equal)
	case map[string]any:
		g, ok := got.(map[string]any)
		return ok && g != nil && maps.EqualFunc(g, w, equal)
	default:
		return got == want
	}
}

func show(s fold.Stored) string {
	out := fmt.Sprintf("version %d by %q at %s", s.Version, s.EventID, s.Time.Format(time.RFC3339Nano))
	if !s.Exists {
		return out + ", deleted"
	}
	for _, v := range s.Values {
		out += ", " + showValue(v)
	}
	return out
}

func showValue(v any) string {
	switch v := v.(type) {
	case *big.Rat:
		return v.RatString()
	case time.Time:
		return v.Format(time.RFC3339Nano)
	default:
		return fmt.Sprintf("%T(%#v)", v, v)
	}
}
