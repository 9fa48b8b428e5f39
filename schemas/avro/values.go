package avro

import (
	"database/sql/driver"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// errMisfit says that a Go value is of no type that a kind accepts.
var errMisfit = errors.New("misfit")

const maxPointers = 8

// plain looks through pointers and through types that a database driver knows how to read, such as sql.Null. What it
// returns is nil or no pointer, except *big.Rat and *big.Int.
func plain(v any) (any, error) {
	for range maxPointers {
		switch v := v.(type) {
		case nil, string, json.Number, bool, int64, int, int32, float64, map[string]any, []any, []byte, time.Time, time.Duration:
			return v, nil
		case *big.Rat:
			return nilOr(v), nil
		case *big.Int:
			return nilOr(v), nil
		}
		r := reflect.ValueOf(v)
		if r.Kind() == reflect.Pointer {
			if r.IsNil() {
				return nil, nil
			}
			v = r.Elem().Interface()
			continue
		}
		valuer, ok := v.(driver.Valuer)
		if !ok {
			return v, nil
		}
		next, err := valuer.Value()
		if err != nil {
			return nil, fmt.Errorf("has no value: %w", err)
		}
		v = next
	}
	return nil, errors.New("is a pointer to a pointer to a pointer without end")
}

func nilOr[T any](p *T) any {
	if p == nil {
		return nil
	}
	return p
}

func isNilSlice(v any) bool {
	r := reflect.ValueOf(v)
	return (r.Kind() == reflect.Slice || r.Kind() == reflect.Map) && r.IsNil()
}

func validText(s string) bool { return utf8.ValidString(s) }

func boolOf(v any) (bool, bool) {
	if b, ok := v.(bool); ok {
		return b, true
	}
	r := reflect.ValueOf(v)
	if r.Kind() == reflect.Bool {
		return r.Bool(), true
	}
	return false, false
}

// textOf takes strings, and types that have a text of their own; numbers are no text.
func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number, time.Time, *big.Rat, *big.Int:
		return "", false
	case encoding.TextMarshaler:
		text, err := v.MarshalText()
		return string(text), err == nil
	}
	r := reflect.ValueOf(v)
	if r.Kind() == reflect.String {
		return r.String(), true
	}
	return "", false
}

func bytesOf(v any, fromJSON bool) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return v, nil
	case string:
		if !fromJSON {
			return nil, errMisfit
		}
		return latin1(v)
	}
	r := reflect.ValueOf(v)
	switch {
	case r.Kind() == reflect.Slice && r.Type().Elem().Kind() == reflect.Uint8:
		return r.Bytes(), nil
	case r.Kind() == reflect.Array && r.Type().Elem().Kind() == reflect.Uint8:
		b := make([]byte, r.Len())
		reflect.Copy(reflect.ValueOf(b), r)
		return b, nil
	}
	return nil, errMisfit
}

// latin1 is how Avro's JSON writes bytes: a string in which the code point is the byte.
func latin1(s string) ([]byte, error) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return nil, fmt.Errorf("has the character %q: bytes in JSON are characters from U+0000 to U+00FF", r)
		}
		b = append(b, byte(r))
	}
	return b, nil
}

func uuidOf(v any) (id [16]byte, ok bool) {
	if text, isText := textOf(v); isText {
		return parseUUID(text)
	}
	b, err := bytesOf(v, false)
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return [16]byte(b), true
}

func parseUUID(s string) (id [16]byte, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, false
	}
	n, err := hex.Decode(id[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:]))
	return id, err == nil && n == len(id)
}

func formatUUID(id [16]byte) string {
	s := hex.EncodeToString(id[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// intOf takes every integer type of Go, and JSON's numbers that are whole.
func intOf(v any) (int64, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case json.Number:
		return wholeNumber(string(v))
	case float64:
		return wholeFloat(v)
	case *big.Int:
		if !v.IsInt64() {
			return 0, errors.New("does not fit 64 bits")
		}
		return v.Int64(), nil
	case time.Duration:
		return 0, errMisfit
	}
	r := reflect.ValueOf(v)
	switch {
	case r.CanInt():
		return r.Int(), nil
	case r.CanUint():
		if r.Uint() > math.MaxInt64 {
			return 0, errors.New("does not fit 64 bits")
		}
		return int64(r.Uint()), nil
	case r.CanFloat():
		return wholeFloat(r.Float())
	}
	return 0, errMisfit
}

// wholeFloat takes a float that is an integer beyond doubt: above 2^53 neighbouring integers share one float.
func wholeFloat(f float64) (int64, error) {
	const limit = 1 << 53
	if f != math.Trunc(f) || f < -limit || f > limit {
		return 0, errors.New("is a float that is not exactly one integer")
	}
	return int64(f), nil
}

func floatOf(v any, fromJSON bool) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case json.Number:
		f, err := strconv.ParseFloat(string(v), 64)
		return f, err == nil
	case string:
		f, named := namedFloats[v]
		return f, named && fromJSON
	case time.Duration:
		return 0, false
	case *big.Rat:
		f, _ := v.Float64()
		return f, !math.IsInf(f, 0)
	}
	r := reflect.ValueOf(v)
	switch {
	case r.CanFloat():
		return r.Float(), true
	case r.CanInt():
		return float64(r.Int()), true
	case r.CanUint():
		return float64(r.Uint()), true
	}
	return 0, false
}

// namedFloats are the values that JSON has no numbers for, as Java's Avro writes them.
var namedFloats = map[string]float64{"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}

// exactFloat says whether f, which was made from v, is v.
func exactFloat(v any, f float64) bool {
	n, err := intOf(v)
	if err == nil {
		back, err := wholeFloat(f)
		return err == nil && back == n
	}
	number, isNumber := v.(json.Number)
	if !isNumber {
		return true
	}
	// What is not whole is written in decimal and held in binary: that is what floats are for. Only size can be lost.
	_, digits, _, ok := splitNumber(string(number))
	return ok && len(digits) <= 17
}

// wholeOf reads a value of a kind that is an integer on the wire: numbers and instants, dates and times of day.
func wholeOf(p *plan, v any) (int64, error) {
	switch p.kind {
	case Timestamp:
		if t, ok := v.(time.Time); ok {
			return epoch(t, p.unit, p.local)
		}
		if s, ok := v.(string); ok {
			t, err := parseInstant(s, p.local)
			if err != nil {
				return 0, err
			}
			return epoch(t, p.unit, p.local)
		}
	case Date:
		if t, ok := v.(time.Time); ok {
			return epochDay(t)
		}
		if s, ok := v.(string); ok {
			t, err := parseDate(s)
			if err != nil {
				return 0, err
			}
			return epochDay(t)
		}
	case TimeOfDay:
		if d, ok := v.(time.Duration); ok {
			return clockUnits(d, p.unit)
		}
		if s, ok := v.(string); ok {
			d, err := parseClock(s)
			if err != nil {
				return 0, err
			}
			return clockUnits(d, p.unit)
		}
	}
	return intOf(v)
}

// decimalOf reads a decimal exactly. Floats are refused: 0.1 as a float is another number.
func decimalOf(p *plan, v any) (*big.Int, error) {
	switch v := v.(type) {
	case *big.Rat:
		return unscaledRat(v, p.precision, p.scale)
	case big.Rat:
		return unscaledRat(&v, p.precision, p.scale)
	case *big.Int:
		return unscaledRat(new(big.Rat).SetInt(v), p.precision, p.scale)
	case json.Number:
		return unscaled(string(v), p.precision, p.scale)
	case time.Time, time.Duration:
		return nil, errMisfit
	}
	if text, ok := textOf(v); ok {
		return unscaled(text, p.precision, p.scale)
	}
	r := reflect.ValueOf(v)
	switch {
	case r.CanInt():
		return unscaled(strconv.FormatInt(r.Int(), 10), p.precision, p.scale)
	case r.CanUint():
		return unscaled(strconv.FormatUint(r.Uint(), 10), p.precision, p.scale)
	case r.CanFloat():
		return nil, errors.New("is a float, which is not exact: give a string, a json.Number or a *big.Rat")
	}
	return nil, errMisfit
}

type items struct {
	len int
	at  func(int) any
}

func itemsOf(v any) (items, bool) {
	if list, ok := v.([]any); ok {
		return items{len(list), func(i int) any { return list[i] }}, true
	}
	r := reflect.ValueOf(v)
	if k := r.Kind(); k != reflect.Slice && k != reflect.Array || r.Type().Elem().Kind() == reflect.Uint8 {
		return items{}, false
	}
	return items{r.Len(), func(i int) any { return r.Index(i).Interface() }}, true
}

// mapOf takes any map whose keys are strings.
func mapOf(v any) (map[string]any, bool) {
	if m, ok := v.(map[string]any); ok {
		return m, true
	}
	r := reflect.ValueOf(v)
	if r.Kind() != reflect.Map || r.Type().Key().Kind() != reflect.String {
		return nil, false
	}
	m := make(map[string]any, r.Len())
	for it := r.MapRange(); it.Next(); {
		m[it.Key().String()] = it.Value().Interface()
	}
	return m, true
}

// show says what a value is, briefly, for a message.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return strconv.Quote(excerpt(v))
	case json.Number:
		return excerpt(string(v))
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case *big.Rat:
		return excerpt(v.RatString())
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case bool, int, int32, int64, float32, float64:
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("a %T", v)
}

// want says what a type takes, for a message.
func (p *plan) want(fromJSON bool) string {
	switch p.kind {
	case Null:
		return "null"
	case Bool:
		return "true or false"
	case Int, Long:
		return "a whole number"
	case Float, Double:
		return "a number"
	case String:
		return "a string"
	case Bytes:
		if fromJSON {
			return "a string of bytes"
		}
		return "a []byte"
	case Enum:
		return "a symbol of " + p.name
	case UUID:
		return "a uuid"
	case Date:
		return "a date"
	case TimeOfDay:
		return "a time of day"
	case Timestamp:
		return "a time"
	case Decimal:
		return fmt.Sprintf("a decimal(%d,%d)", p.precision, p.scale)
	case Array:
		return "a list"
	case Map:
		return "an object"
	case Record:
		return "an object with the fields of " + p.name
	}
	return "a value of the union"
}

func excerpt(s string) string {
	const limit = 60
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
