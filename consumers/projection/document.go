package projection

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
)

// Document renders the values of a state for JSON: search documents, tables printed with -o json. Every column is there, null as
// nil. Numbers are exact: int64, and json.Number for decimals with the column's digits behind the point ("12.50"). Timestamps are
// RFC 3339 in UTC, dates 2006-01-02, durations 15:04:05.000000, bytes standard base64. A float that is not a number has no JSON
// form and becomes nil.
func Document(cols []Column, values []any) map[string]any {
	doc := make(map[string]any, len(cols))
	for i, c := range cols {
		if i < len(values) {
			doc[c.Name] = DocumentValue(c.Type, values[i])
		}
	}
	return doc
}

// DocumentValue renders one value as Document does.
func DocumentValue(t Type, v any) any {
	switch x := v.(type) {
	case *big.Rat:
		if t.Kind == Decimal {
			return json.Number(x.FloatString(t.Scale)) // exact: a Decimal's value fits its scale
		}
		return plainValue(x)
	case time.Time:
		if t.Kind == Date {
			return x.Format(time.DateOnly)
		}
	case []any:
		if t.Kind == List && t.Elem != nil {
			return mapSlice(x, func(e any) any { return DocumentValue(*t.Elem, e) })
		}
	}
	return plainValue(v)
}

// plainValue renders a value by its Go type alone.
func plainValue(v any) any {
	switch x := v.(type) {
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil
		}
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	case time.Time:
		return x.UTC().Format(time.RFC3339Nano)
	case time.Duration:
		return durationText(x)
	case *big.Rat:
		if digits, exact := x.FloatPrec(); exact {
			return json.Number(x.FloatString(digits))
		}
		return x.String()
	case []any:
		return mapSlice(x, plainValue)
	case map[string]any:
		out := make(map[string]any, len(x))
		for name, e := range x {
			out[name] = plainValue(e)
		}
		return out
	}
	return v
}

func mapSlice(in []any, f func(any) any) []any {
	out := make([]any, len(in))
	for i, e := range in {
		out[i] = f(e)
	}
	return out
}

// durationText is the form a time of day is read in: 09:30:00, 26:00:00.500000, -00:00:01.
func durationText(d time.Duration) string {
	us := d.Microseconds()
	sign := ""
	if us < 0 {
		sign, us = "-", -us
	}
	seconds := us / 1e6
	var b strings.Builder
	fmt.Fprintf(&b, "%s%02d:%02d:%02d", sign, seconds/3600, seconds/60%60, seconds%60)
	if frac := us % 1e6; frac != 0 {
		fmt.Fprintf(&b, ".%06d", frac)
	}
	return b.String()
}
