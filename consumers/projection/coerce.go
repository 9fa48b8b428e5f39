package projection

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
	"unicode/utf8"
)

// Coerce turns a decoded value into the value of a column: the same value in the column's form, or an error. Nothing is rounded,
// cut or guessed. What it accepts beyond the kind itself: whole numbers for decimals and floats that hold them exactly; texts that
// spell a decimal, a date (2006-01-02) or a timestamp (RFC 3339); anything for json. Nil stays nil.
func Coerce(t Type, v any) (any, error) { return coerce(t, v, 0) }

func coerce(t Type, v any, depth int) (any, error) {
	if v == nil {
		return nil, nil
	}
	if depth > maxDepth {
		return nil, errTooDeep
	}
	switch t.Kind {
	case Bool:
		return as[bool](t, v)
	case Int:
		return coerceInt(t, v)
	case Float:
		return coerceFloat(t, v)
	case Text:
		if s, ok := v.(string); ok && !utf8.ValidString(s) {
			return nil, errors.New("the text is not UTF-8")
		}
		return as[string](t, v)
	case Bytes:
		return as[[]byte](t, v)
	case Date:
		return coerceDate(t, v)
	case Timestamp:
		return coerceTimestamp(t, v)
	case Duration:
		return coerceDuration(t, v)
	case Decimal:
		return coerceDecimal(t, v)
	case List:
		return coerceList(t, v, depth)
	case JSON:
		return v, checkJSON(v, depth)
	}
	return nil, fmt.Errorf("unknown kind %d", t.Kind)
}

func as[T any](t Type, v any) (any, error) {
	if _, ok := v.(T); ok {
		return v, nil
	}
	return nil, mismatch(t, v)
}

func mismatch(t Type, v any) error { return fmt.Errorf("a value of type %s is no %s", valueName(v), t) }

// valueName names a value's type in the words of declarations.
func valueName(v any) string {
	switch v.(type) {
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	case string:
		return "text"
	case []byte:
		return "bytes"
	case time.Time:
		return "timestamp"
	case time.Duration:
		return "duration"
	case *big.Rat:
		return "decimal"
	case []any:
		return "list"
	case map[string]any:
		return "map"
	}
	return fmt.Sprintf("%T", v)
}

func coerceInt(t Type, v any) (any, error) {
	switch x := v.(type) {
	case int64:
		return v, nil
	case float64:
		if n := int64(x); x == math.Trunc(x) && x >= -1<<63 && x < 1<<63 {
			return n, nil
		}
		return nil, fmt.Errorf("%v is no whole number of 64 bits", x)
	case *big.Rat:
		if x.IsInt() && x.Num().IsInt64() {
			return x.Num().Int64(), nil
		}
		return nil, fmt.Errorf("%s is no whole number of 64 bits", ratText(x))
	}
	return nil, mismatch(t, v)
}

func coerceFloat(t Type, v any) (any, error) {
	switch x := v.(type) {
	case float64:
		return v, nil
	case int64:
		if f := float64(x); f < 1<<63 && int64(f) == x {
			return f, nil
		}
		return nil, fmt.Errorf("%d has no exact float", x)
	}
	return nil, mismatch(t, v)
}

func coerceDecimal(t Type, v any) (any, error) {
	var r *big.Rat
	switch x := v.(type) {
	case *big.Rat:
		r = x
		if _, ok := unscaledSmall(r, t.Precision, t.Scale); ok {
			return v, nil
		}
	case int64:
		r = new(big.Rat).SetInt64(x)
	case string:
		var err error
		if r, err = ParseDecimal(x); err != nil {
			return nil, err
		}
	default:
		return nil, mismatch(t, v)
	}
	if _, err := Unscaled(r, t.Precision, t.Scale); err != nil {
		return nil, err
	}
	return r, nil
}

func coerceDate(t Type, v any) (any, error) {
	switch x := v.(type) {
	case time.Time:
		if x = x.UTC(); !x.Equal(x.Truncate(24 * time.Hour)) {
			return nil, fmt.Errorf("%s is not the beginning of a day", x.Format(time.RFC3339Nano))
		}
		return inYears(x)
	case string:
		d, err := time.Parse(time.DateOnly, x)
		if err != nil {
			return nil, fmt.Errorf("%q is no date of the form 2006-01-02", clip(x))
		}
		return inYears(d)
	}
	return nil, mismatch(t, v)
}

func coerceTimestamp(t Type, v any) (any, error) {
	switch x := v.(type) {
	case time.Time:
		return microseconds(x)
	case string:
		ts, err := time.Parse(time.RFC3339Nano, x)
		if err != nil {
			return nil, fmt.Errorf("%q is no RFC 3339 timestamp", clip(x))
		}
		return microseconds(ts)
	}
	return nil, mismatch(t, v)
}

func microseconds(x time.Time) (any, error) {
	if x.Nanosecond()%1000 != 0 {
		return nil, fmt.Errorf("%s is finer than a microsecond", x.UTC().Format(time.RFC3339Nano))
	}
	return inYears(x)
}

// inYears holds times to the years that RFC 3339 and every backend can write.
func inYears(x time.Time) (any, error) {
	x = x.UTC()
	if y := x.Year(); y < 1 || y > 9999 {
		return nil, fmt.Errorf("year %d is not within 1 to 9999", y)
	}
	return x, nil
}

func coerceDuration(t Type, v any) (any, error) {
	d, ok := v.(time.Duration)
	if !ok {
		return nil, mismatch(t, v)
	}
	if d%time.Microsecond != 0 {
		return nil, fmt.Errorf("%s is finer than a microsecond", d)
	}
	return d, nil
}

func coerceList(t Type, v any, depth int) (any, error) {
	in, ok := v.([]any)
	if !ok || t.Elem == nil {
		return nil, mismatch(t, v)
	}
	out := make([]any, len(in))
	for i, e := range in {
		var err error
		if out[i], err = coerce(*t.Elem, e, depth+1); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return out, nil
}

// checkJSON makes sure that a value holds nothing but what a JSON column can keep.
func checkJSON(v any, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	switch x := v.(type) {
	case nil, bool, int64, float64, []byte, time.Time, time.Duration, *big.Rat:
		return nil
	case string:
		if !utf8.ValidString(x) {
			return errors.New("a text in it is not UTF-8")
		}
		return nil
	case []any:
		for _, e := range x {
			if err := checkJSON(e, depth+1); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		for name, e := range x {
			if !utf8.ValidString(name) {
				return errors.New("a name in it is not UTF-8")
			}
			if err := checkJSON(e, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("a value of type %T is no json", v)
}

// ParseDecimal reads a number as people write it: a sign, digits, a point and digits, at most 128 characters. No exponent.
func ParseDecimal(text string) (*big.Rat, error) {
	digits := strings.TrimLeft(text, "+-")
	whole, frac, _ := strings.Cut(digits, ".")
	ok := len(text) <= 128 && len(text)-len(digits) <= 1 && whole+frac != "" && strings.Trim(whole+frac, "0123456789") == ""
	if ok {
		if r, parsed := new(big.Rat).SetString(text); parsed {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%q is no decimal number", clip(text))
}

// clip keeps a value in a message short.
func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}
