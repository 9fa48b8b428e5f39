package projection

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"time"
	"unicode/utf8"
)

var (
	errTooDeep   = errors.New("nested deeper than 64 levels")
	errTruncated = errors.New("ends in the middle of a value")
)

// DecodeState reads what EncodeState wrote for the same columns. It fails, and never panics or takes memory out of proportion, for
// bytes that EncodeState did not write.
func DecodeState(cols []Column, b []byte) ([]any, error) {
	r := &stateReader{b: b}
	if f := r.byte(); f != stateFormat {
		return nil, fmt.Errorf("decode state: format %d is unknown, want %d", f, stateFormat)
	}
	if n := r.uvarint(); n != uint64(len(cols)) {
		return nil, fmt.Errorf("decode state: %d values for %d columns", n, len(cols))
	}
	values := make([]any, len(cols))
	for i, c := range cols {
		values[i] = r.typed(c.Type, 0)
		if r.err != nil {
			return nil, fmt.Errorf("decode state: column %q: %w", c.Name, r.err)
		}
	}
	if len(r.b) != 0 {
		return nil, fmt.Errorf("decode state: %d bytes are left over", len(r.b))
	}
	return values, nil
}

// stateReader takes values off the front of b. After the first error it returns zeros.
type stateReader struct {
	b   []byte
	err error
}

func (r *stateReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *stateReader) byte() byte {
	if len(r.b) == 0 {
		r.fail(errTruncated)
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *stateReader) uvarint() uint64 {
	x, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errTruncated)
		return 0
	}
	r.b = r.b[n:]
	return x
}

func (r *stateReader) varint() int64 {
	x, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail(errTruncated)
		return 0
	}
	r.b = r.b[n:]
	return x
}

// count reads the number of elements that follow. Each takes a byte at least, so no more can be announced than bytes are left.
func (r *stateReader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail(errTruncated)
		return 0
	}
	return int(n)
}

// raw returns a length-prefixed run of the input, not copied.
func (r *stateReader) raw() []byte {
	n := r.count()
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *stateReader) text() string {
	b := r.raw()
	if !utf8.Valid(b) {
		r.fail(errors.New("text is not UTF-8"))
	}
	return string(b)
}

func (r *stateReader) float() float64 {
	if len(r.b) < 8 {
		r.fail(errTruncated)
		return 0
	}
	x := math.Float64frombits(binary.BigEndian.Uint64(r.b))
	r.b = r.b[8:]
	return x
}

func (r *stateReader) big() *big.Int {
	sign := r.byte()
	n := new(big.Int).SetBytes(r.raw())
	switch {
	case sign > 2 || (sign == 1) != (n.Sign() == 0):
		r.fail(fmt.Errorf("sign %d does not fit the number", sign))
	case sign == 0:
		n.Neg(n)
	}
	return n
}

func (r *stateReader) bool() bool {
	c := r.byte()
	if c > 1 {
		r.fail(fmt.Errorf("%d is not a truth value", c))
	}
	return c == 1
}

func (r *stateReader) typed(t Type, depth int) any {
	if depth > maxDepth {
		r.fail(errTooDeep)
		return nil
	}
	if !r.bool() {
		return nil
	}
	switch t.Kind {
	case Bool:
		return r.bool()
	case Int:
		return r.varint()
	case Float:
		return r.float()
	case Text:
		return r.text()
	case Bytes:
		return append([]byte{}, r.raw()...)
	case Date:
		return r.date()
	case Timestamp:
		return time.UnixMicro(r.varint()).UTC()
	case Duration:
		return time.Duration(r.varint())
	case Decimal:
		return r.decimal(t)
	case List:
		return r.list(t, depth)
	case JSON:
		return r.tagged(depth + 1)
	}
	r.fail(fmt.Errorf("unknown kind %d", t.Kind))
	return nil
}

func (r *stateReader) date() any {
	days := r.varint()
	if days > math.MaxInt32 || days < math.MinInt32 {
		r.fail(fmt.Errorf("day %d is out of range", days))
		return nil
	}
	return time.Unix(days*secondsPerDay, 0).UTC()
}

func (r *stateReader) decimal(t Type) any {
	n := r.big()
	if len(n.Bytes()) > maxDecimalBytes {
		r.fail(errors.New("decimal is too long"))
		return nil
	}
	v := new(big.Rat).SetFrac(n, pow10(t.Scale))
	if _, err := Unscaled(v, t.Precision, t.Scale); err != nil {
		r.fail(err)
	}
	return v
}

func (r *stateReader) list(t Type, depth int) any {
	if t.Elem == nil {
		r.fail(errors.New("list without an element type"))
		return nil
	}
	n := r.count()
	items := make([]any, 0, min(n, 1024))
	for i := 0; i < n && r.err == nil; i++ {
		items = append(items, r.typed(*t.Elem, depth+1))
	}
	return items
}

func (r *stateReader) tagged(depth int) any {
	if depth > maxDepth {
		r.fail(errTooDeep)
		return nil
	}
	switch tag := r.byte(); tag {
	case tagNull:
		return nil
	case tagFalse, tagTrue:
		return tag == tagTrue
	case tagInt:
		return r.varint()
	case tagFloat:
		return r.float()
	case tagText:
		return r.text()
	case tagBytes:
		return append([]byte{}, r.raw()...)
	case tagTime:
		return r.taggedTime()
	case tagDuration:
		return time.Duration(r.varint())
	case tagRat:
		return r.rat()
	case tagList:
		return r.taggedList(depth)
	case tagMap:
		return r.taggedMap(depth)
	default:
		r.fail(fmt.Errorf("value tag %d is unknown", tag))
		return nil
	}
}

func (r *stateReader) taggedTime() any {
	sec, nsec := r.varint(), r.uvarint()
	if nsec >= uint64(time.Second) {
		r.fail(fmt.Errorf("%d nanoseconds are a second or more", nsec))
		return nil
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

func (r *stateReader) rat() any {
	num := r.big()
	den := new(big.Int).SetBytes(r.raw())
	if den.Sign() == 0 || len(num.Bytes()) > maxDecimalBytes || len(den.Bytes()) > maxDecimalBytes {
		r.fail(errors.New("decimal is out of range"))
		return nil
	}
	return new(big.Rat).SetFrac(num, den)
}

func (r *stateReader) taggedList(depth int) any {
	n := r.count()
	items := make([]any, 0, min(n, 1024))
	for i := 0; i < n && r.err == nil; i++ {
		items = append(items, r.tagged(depth+1))
	}
	return items
}

func (r *stateReader) taggedMap(depth int) any {
	n := r.count()
	m := make(map[string]any, min(n, 1024))
	for i := 0; i < n && r.err == nil; i++ {
		name := r.text()
		m[name] = r.tagged(depth + 1)
	}
	return m
}
