package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// Rows are written in the binary form of COPY: a count of fields, and each field behind its length. -1 is the length of null.

var (
	copyHead = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	copyTail = []byte{0xff, 0xff}
)

// postgresEpoch is the day that Postgres counts from, as Unix time.
const (
	postgresEpoch = 946684800
	secondsPerDay = 24 * 60 * 60
)

var be = binary.BigEndian

func appendNull(b []byte) []byte { return be.AppendUint32(b, math.MaxUint32) }

func appendLong(b []byte, x int64) []byte { return be.AppendUint64(be.AppendUint32(b, 8), uint64(x)) }

func appendInt(b []byte, x int32) []byte { return be.AppendUint32(be.AppendUint32(b, 4), uint32(x)) }

func appendBool(b []byte, x bool) []byte {
	if x {
		return append(b, 0, 0, 0, 1, 1)
	}
	return append(b, 0, 0, 0, 1, 0)
}

func appendText(b []byte, s string) []byte { return append(be.AppendUint32(b, uint32(len(s))), s...) }

func appendBytes(b, x []byte) []byte { return append(be.AppendUint32(b, uint32(len(x))), x...) }

// micros counts the microseconds from Postgres' epoch. What Postgres cannot hold becomes the nearest that it can: an event's time
// is whatever its writer made of it, and a state's time has been held to the years 1 to 9999.
func micros(t time.Time) int64 {
	const least, most = -210866803200, 9224318015999 // seconds: the days before and behind which Postgres has no timestamp
	s := min(max(t.Unix(), least), most)
	return (s-postgresEpoch)*1e6 + int64(t.Nanosecond())/1000
}

// appendRow appends a change as a row of the staging table.
func (t *table) appendRow(b []byte, c *fold.Change) ([]byte, error) {
	if !utf8.ValidString(c.Key) || strings.IndexByte(c.Key, 0) >= 0 {
		return b, errors.New("the key is no text that Postgres can hold")
	}
	b = be.AppendUint16(b, uint16(len(headNames)+2+len(t.cols)))
	b = appendText(b, storedKey(c.Key))
	b = appendLong(b, c.Version)
	b = appendText(b, plain(c.EventID))
	b = appendLong(b, micros(c.Time))
	b = appendBool(b, !c.Exists)
	if len(c.Key) > longKey {
		b = appendText(b, c.Key)
	} else {
		b = appendNull(b)
	}
	if !c.Exists {
		for range t.cols {
			b = appendNull(b)
		}
		return appendNull(b), nil
	}
	if len(c.Values) != len(t.cols) {
		return b, fmt.Errorf("%d values for %d columns", len(c.Values), len(t.cols))
	}
	return t.appendValues(b, c.Values)
}

// appendValues appends the declared columns and _exact.
func (t *table) appendValues(b []byte, values []any) ([]byte, error) {
	var rest []exactValue // what Postgres holds in another form
	for i := range t.cols {
		var whole bool
		var err error
		if b, whole, err = appendValue(b, t.cols[i].Type, values[i]); err != nil {
			return b, fmt.Errorf("column %s: %w", t.cols[i].Name, err)
		}
		if !whole {
			rest = append(rest, exactValue{t.cols[i].Name, values[i]})
		}
	}
	if rest == nil {
		return appendNull(b), nil
	}
	exact, err := encodeExact(rest)
	return appendBytes(b, exact), err
}

// appendValue appends the value of a column. It says whether Postgres gives the same value back; if not, it belongs into _exact. A
// value that is not of the column's kind is an error.
func appendValue(b []byte, t projection.Type, v any) (_ []byte, whole bool, err error) {
	if v == nil {
		return appendNull(b), true, nil
	}
	if heldAsJSON(t) {
		b, err = appendJSONB(b, t, v)
		return b, false, err
	}
	switch x := v.(type) {
	case bool:
		if t.Kind == projection.Bool {
			return appendBool(b, x), true, nil
		}
	case int64:
		if t.Kind == projection.Int {
			return appendLong(b, x), true, nil
		}
	case float64:
		if t.Kind == projection.Float {
			return appendLong(b, int64(math.Float64bits(x))), true, nil
		}
	case string:
		if t.Kind == projection.Text {
			return appendString(b, x)
		}
	case []byte:
		if t.Kind == projection.Bytes {
			return appendBytes(b, x), true, nil
		}
	case time.Time:
		return appendTime(b, t, x)
	case time.Duration:
		if t.Kind == projection.Duration {
			b = appendLong(b, x.Microseconds()) // of an interval, and its days and months
			be.PutUint32(b[len(b)-12:], 16)
			return append(b, 0, 0, 0, 0, 0, 0, 0, 0), true, nil
		}
	case *big.Rat:
		if t.Kind == projection.Decimal {
			b, err = appendNumeric(b, t, x)
			return b, true, err
		}
	case []any:
		if t.Kind == projection.List {
			return appendArray(b, *t.Elem, x)
		}
	}
	return b, false, wrongKind(t, v)
}

func wrongKind(t projection.Type, v any) error { return fmt.Errorf("a %T is no %s", v, t) }

func appendTime(b []byte, t projection.Type, x time.Time) ([]byte, bool, error) {
	switch t.Kind {
	case projection.Timestamp:
		return appendLong(b, micros(x)), true, nil
	case projection.Date:
		days := (x.Unix() - postgresEpoch) / secondsPerDay
		if days*secondsPerDay+postgresEpoch != x.Unix() || days != int64(int32(days)) {
			return b, false, errors.New("the date is not the beginning of a day")
		}
		return appendInt(b, int32(days)), true, nil
	}
	return b, false, wrongKind(t, x)
}

// appendString appends a text. A null character, which no text in Postgres can hold, stands there as U+FFFD.
func appendString(b []byte, s string) ([]byte, bool, error) {
	if !utf8.ValidString(s) {
		return b, false, errors.New("the text is not UTF-8")
	}
	if strings.IndexByte(s, 0) >= 0 {
		return appendText(b, plain(s)), false, nil
	}
	return appendText(b, s), true, nil
}

// plain is a text without what Postgres cannot hold.
func plain(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}

// elementTypes are the types of the elements of arrays.
var elementTypes = map[projection.Kind]uint32{
	projection.Bool: 16, projection.Bytes: 17, projection.Int: 20, projection.Text: 25, projection.Float: 701,
	projection.Date: 1082, projection.Timestamp: 1184, projection.Duration: 1186, projection.Decimal: 1700,
}

// appendArray appends a list as an array of one dimension.
func appendArray(b []byte, elem projection.Type, items []any) ([]byte, bool, error) {
	start := len(b)
	b = be.AppendUint32(b, 0)
	dimensions, nulls, whole := uint32(0), uint32(0), true
	if len(items) > 0 {
		dimensions = 1
	}
	if slices.Contains(items, nil) {
		nulls = 1
	}
	b = be.AppendUint32(be.AppendUint32(be.AppendUint32(b, dimensions), nulls), elementTypes[elem.Kind])
	if dimensions > 0 {
		b = be.AppendUint32(be.AppendUint32(b, uint32(len(items))), 1)
	}
	for i, item := range items {
		var same bool
		var err error
		if b, same, err = appendValue(b, elem, item); err != nil {
			return b, false, fmt.Errorf("element %d: %w", i, err)
		}
		whole = whole && same
	}
	be.PutUint32(b[start:], uint32(len(b)-start-4))
	return b, whole, nil
}

// appendJSONB appends a value as jsonb.
func appendJSONB(b []byte, t projection.Type, v any) ([]byte, error) {
	if _, err := projection.Coerce(t, v); err != nil {
		return b, err
	}
	start := len(b)
	b = append(be.AppendUint32(b, 0), 1) // the version of the form
	b = appendJSON(b, v)
	be.PutUint32(b[start:], uint32(len(b)-start-4))
	return b, nil
}

// appendJSON appends JSON text that Postgres can take apart: a null character stands there as U+FFFD.
func appendJSON(b []byte, v any) []byte {
	start := len(b)
	b = projection.AppendJSON(b, v)
	if nullIn(b[start:]) {
		b = projection.AppendJSON(b[:start], withoutNulls(v))
	}
	return b
}

func withoutNulls(v any) any {
	switch x := v.(type) {
	case string:
		return plain(x)
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = withoutNulls(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(x))
		for name, e := range x {
			out[plain(name)] = withoutNulls(e)
		}
		return out
	}
	return v
}
