package compare

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// maxText is the length in bytes to which values are cut.
const maxText = 300

// appendTold is a value as JSON, numbers in their shortest exact form.
func appendTold(b []byte, t projection.Type, v any) []byte {
	if v == nil {
		return append(b, "null"...)
	}
	if r, ok := v.(*big.Rat); ok {
		if digits, exact := r.FloatPrec(); exact {
			return append(b, r.FloatString(digits)...)
		}
		return append(b, r.String()...)
	}
	if t.Kind == projection.Date {
		return projection.AppendJSON(b, projection.DocumentValue(t, v))
	}
	return projection.AppendJSON(b, v)
}

// tellColumns shows columns of a state: status "paid", total 12.5.
func tellColumns(all []projection.Column, st *fold.Stored, names []string) string {
	switch {
	case st == nil:
		return ""
	case !st.Exists:
		return "deleted"
	}
	var b []byte
	for i, c := range all {
		if names != nil && !slices.Contains(names, c.Name) {
			continue
		}
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = append(append(b, c.Name...), ' ')
		if b = appendTold(b, c.Type, valueAt(st, i)); len(b) > maxText {
			break
		}
	}
	return cut(string(b))
}

func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// difference describes two states of a key that differ. One that is nil is not there; of both something is.
func (p *plan) difference(key string, kind Kind, old, new *fold.Stored) Difference {
	d := Difference{Entity: p.entity, Key: key, Kind: kind}
	if old != nil && new != nil {
		for _, m := range p.equal {
			a := appendValues(nil, p.old[m.old:m.old+1], []any{valueAt(old, m.old)})
			b := appendValues(nil, p.new[m.new:m.new+1], []any{valueAt(new, m.new)})
			if !slices.Equal(a, b) {
				d.Columns = append(d.Columns, m.name)
			}
		}
	}
	var names []string
	if old != nil && new != nil && old.Exists && new.Exists {
		if names = d.Columns; names == nil {
			names = []string{}
		}
	}
	d.Old, d.New = tellColumns(p.old, old, names), tellColumns(p.new, new, names)
	if kind == Version {
		d.Old, d.New = withVersion(old, d.Old), withVersion(new, d.New)
	}
	return d
}

func withVersion(st *fold.Stored, text string) string {
	if st == nil {
		return text
	}
	v := "version " + strconv.FormatInt(st.Version, 10)
	if text == "" {
		return v
	}
	return v + ": " + text
}

// timeAt is the time of so many nanoseconds; zero for 0.
func timeAt(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

// nanosOf is a time in nanoseconds; 0 for zero.
func nanosOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
