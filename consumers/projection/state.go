package projection

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"
)

// stateFormat is the first byte of an encoded state. Another layout takes another number.
const stateFormat = 1

// maxDepth bounds how deeply lists and JSON values nest, in both directions.
const maxDepth = 64

// Tags of the values inside a JSON column, which carry their own type.
const (
	tagNull = iota
	tagFalse
	tagTrue
	tagInt
	tagFloat
	tagText
	tagBytes
	tagTime
	tagDuration
	tagRat
	tagList
	tagMap
)

// EncodeState writes the values of a state as bytes for backends that keep states opaque. The form is compact and exact for every
// kind: DecodeState with the same columns returns equal values, and equal values give equal bytes. It fails for a value that is
// not of its column's kind, or that nests deeper than 64 levels.
func EncodeState(cols []Column, values []any) ([]byte, error) {
	if len(cols) != len(values) {
		return nil, fmt.Errorf("encode state: %d values for %d columns", len(values), len(cols))
	}
	b := make([]byte, 0, 16+12*len(values))
	b = append(b, stateFormat)
	b = binary.AppendUvarint(b, uint64(len(values)))
	for i, v := range values {
		var err error
		if b, err = appendTyped(b, cols[i].Type, v, 0); err != nil {
			return nil, fmt.Errorf("encode state: column %q: %w", cols[i].Name, err)
		}
	}
	return b, nil
}

// appendTyped writes a null mark and, unless v is nil, the value in the form of its kind.
func appendTyped(b []byte, t Type, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	if v == nil {
		return append(b, 0), nil
	}
	b = append(b, 1)
	switch t.Kind {
	case Bool:
		return encode(b, v, func(b []byte, x bool) []byte {
			if x {
				return append(b, 1)
			}
			return append(b, 0)
		})
	case Int:
		return encode(b, v, binary.AppendVarint)
	case Float:
		return encode(b, v, appendFloat)
	case Text:
		return encode(b, v, appendText)
	case Bytes:
		return encode(b, v, appendBytes)
	case Date:
		return encode(b, v, func(b []byte, x time.Time) []byte { return binary.AppendVarint(b, floorDiv(x.Unix(), secondsPerDay)) })
	case Timestamp:
		return encode(b, v, func(b []byte, x time.Time) []byte { return binary.AppendVarint(b, x.UnixMicro()) })
	case Duration:
		return encode(b, v, func(b []byte, x time.Duration) []byte { return binary.AppendVarint(b, int64(x)) })
	case Decimal:
		return appendDecimal(b, t, v)
	case List:
		return appendList(b, t, v, depth)
	case JSON:
		return appendTagged(b, v, depth+1)
	}
	return nil, fmt.Errorf("unknown kind %d", t.Kind)
}

func encode[T any](b []byte, v any, put func([]byte, T) []byte) ([]byte, error) {
	x, ok := v.(T)
	if !ok {
		return nil, fmt.Errorf("value is a %T, want %T", v, x)
	}
	return put(b, x), nil
}

func appendFloat(b []byte, x float64) []byte {
	return binary.BigEndian.AppendUint64(b, math.Float64bits(x))
}

func appendText(b []byte, x string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(x))), x...)
}

func appendBytes(b []byte, x []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(x))), x...)
}

func appendDecimal(b []byte, t Type, v any) ([]byte, error) {
	r, ok := v.(*big.Rat)
	if !ok {
		return nil, fmt.Errorf("value is a %T, want *big.Rat", v)
	}
	n, err := Unscaled(r, t.Precision, t.Scale)
	if err != nil {
		return nil, err
	}
	return appendBig(b, n), nil
}

// appendBig writes a sign byte and the magnitude.
func appendBig(b []byte, n *big.Int) []byte {
	return appendBytes(append(b, byte(n.Sign()+1)), n.Bytes())
}

func appendList(b []byte, t Type, v any, depth int) ([]byte, error) {
	items, ok := v.([]any)
	if !ok || t.Elem == nil {
		return nil, fmt.Errorf("value is a %T, want a list", v)
	}
	b = binary.AppendUvarint(b, uint64(len(items)))
	for i, item := range items {
		var err error
		if b, err = appendTyped(b, *t.Elem, item, depth+1); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return b, nil
}

// appendTagged writes a value of a JSON column with its own type in front.
func appendTagged(b []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	switch x := v.(type) {
	case nil:
		return append(b, tagNull), nil
	case bool:
		if x {
			return append(b, tagTrue), nil
		}
		return append(b, tagFalse), nil
	case int64:
		return binary.AppendVarint(append(b, tagInt), x), nil
	case float64:
		return appendFloat(append(b, tagFloat), x), nil
	case string:
		return appendText(append(b, tagText), x), nil
	case []byte:
		return appendBytes(append(b, tagBytes), x), nil
	case time.Time:
		b = binary.AppendVarint(append(b, tagTime), x.Unix())
		return binary.AppendUvarint(b, uint64(x.Nanosecond())), nil
	case time.Duration:
		return binary.AppendVarint(append(b, tagDuration), int64(x)), nil
	case *big.Rat:
		return appendBytes(appendBig(append(b, tagRat), x.Num()), x.Denom().Bytes()), nil
	case []any:
		return appendTaggedList(b, x, depth)
	case map[string]any:
		return appendTaggedMap(b, x, depth)
	}
	return nil, fmt.Errorf("value is a %T, which no JSON column holds", v)
}

func appendTaggedList(b []byte, items []any, depth int) ([]byte, error) {
	b = binary.AppendUvarint(append(b, tagList), uint64(len(items)))
	var err error
	for _, item := range items {
		if b, err = appendTagged(b, item, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// appendTaggedMap writes the entries in order of their names: equal values give equal bytes.
func appendTaggedMap(b []byte, m map[string]any, depth int) ([]byte, error) {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	b = binary.AppendUvarint(append(b, tagMap), uint64(len(names)))
	var err error
	for _, name := range names {
		if b, err = appendTagged(appendText(b, name), m[name], depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

const secondsPerDay = 24 * 60 * 60

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
