package avro

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxDepth bounds how deep a value nests. It is below what the decoder accepts, so that what is written can be read.
const maxDepth = 400

// writer writes one value. It goes through the value and the plan at once and appends the binary as it goes: there is no
// step in between in which a value could be rounded or lost.
type writer struct {
	schema string
	// json says that the value came as JSON, where bytes are strings of the code points 0 to 255.
	json  bool
	path  []step
	depth int
	codec *Codec
}

// step is one step of the path to a value: a field's or key's name, or an index if the name is empty.
type step struct {
	name  string
	index int
}

func (w *writer) push(name string, index int) { w.path = append(w.path, step{name, index}) }
func (w *writer) pop()                        { w.path = w.path[:len(w.path)-1] }

func (w *writer) pathText() string {
	var b strings.Builder
	for _, s := range w.path {
		switch {
		case s.name == "":
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		case b.Len() > 0:
			b.WriteString("." + excerpt(s.name))
		default:
			b.WriteString(excerpt(s.name))
		}
	}
	return b.String()
}

func (w *writer) fail(reason string) error {
	return &FieldError{Schema: w.schema, Field: w.pathText(), Reason: reason}
}

// misfit says that v cannot be a value of p.
func (w *writer) misfit(p *plan, v any) error {
	return w.fail(show(v) + " is not " + p.want(w.json))
}

func (w *writer) value(dst []byte, p *plan, v any) ([]byte, error) {
	if w.depth++; w.depth > maxDepth {
		return dst, w.fail(fmt.Sprintf("nested deeper than %d levels", maxDepth))
	}
	defer func() { w.depth-- }()
	v, err := plain(v)
	if err != nil {
		return dst, w.fail(err.Error())
	}
	if p.kind == Union {
		return w.union(dst, p, v)
	}
	if v == nil && p.kind != Null {
		return dst, w.fail("must not be null")
	}
	switch p.kind {
	case Record:
		return w.record(dst, p, v)
	case Array:
		return w.array(dst, p, v)
	case Map:
		return w.mapping(dst, p, v)
	}
	return w.leaf(dst, p, v)
}

func (w *writer) leaf(dst []byte, p *plan, v any) ([]byte, error) {
	switch p.kind {
	case Null:
		if v != nil {
			return dst, w.misfit(p, v)
		}
		return dst, nil
	case Bool:
		b, ok := boolOf(v)
		if !ok {
			return dst, w.misfit(p, v)
		}
		if b {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	case Float, Double:
		return w.float(dst, p, v)
	case String, Enum:
		return w.text(dst, p, v)
	case UUID:
		return w.uuid(dst, p, v)
	case Bytes:
		return w.bytes(dst, p, v)
	case Decimal:
		return w.decimal(dst, p, v)
	}
	return w.whole(dst, p, v)
}

func (w *writer) text(dst []byte, p *plan, v any) ([]byte, error) {
	s, ok := textOf(v)
	if !ok {
		return dst, w.misfit(p, v)
	}
	if p.kind == Enum {
		n, ok := p.ordinal[s]
		if !ok {
			return dst, w.fail(fmt.Sprintf("%q is not one of the enum's symbols %s", excerpt(s), excerpt(strings.Join(p.symbols, ", "))))
		}
		return binary.AppendVarint(dst, int64(n)), nil
	}
	if !validText(s) {
		return dst, w.fail("is not UTF-8 text")
	}
	return append(binary.AppendVarint(dst, int64(len(s))), s...), nil
}

func (w *writer) bytes(dst []byte, p *plan, v any) ([]byte, error) {
	b, err := bytesOf(v, w.json)
	if errors.Is(err, errMisfit) {
		return dst, w.misfit(p, v)
	}
	if err != nil {
		return dst, w.fail(err.Error())
	}
	if p.physical == "bytes" {
		return append(binary.AppendVarint(dst, int64(len(b))), b...), nil
	}
	if len(b) != p.size {
		return dst, w.fail(fmt.Sprintf("has %d bytes, %s has %d", len(b), p.name, p.size))
	}
	return append(dst, b...), nil
}

func (w *writer) uuid(dst []byte, p *plan, v any) ([]byte, error) {
	id, ok := uuidOf(v)
	if !ok {
		return dst, w.misfit(p, v)
	}
	if p.physical == "fixed" {
		return append(dst, id[:]...), nil
	}
	s := formatUUID(id)
	return append(binary.AppendVarint(dst, int64(len(s))), s...), nil
}

func (w *writer) float(dst []byte, p *plan, v any) ([]byte, error) {
	f, ok := floatOf(v, w.json)
	if !ok {
		return dst, w.misfit(p, v)
	}
	if p.kind == Double {
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), nil
	}
	narrow := float32(f)
	if math.IsInf(float64(narrow), 0) && !math.IsInf(f, 0) {
		return dst, w.fail(show(v) + " is outside the range of a float of 32 bits")
	}
	return binary.LittleEndian.AppendUint32(dst, math.Float32bits(narrow)), nil
}

// whole writes what is an integer on the wire.
func (w *writer) whole(dst []byte, p *plan, v any) ([]byte, error) {
	n, err := wholeOf(p, v)
	if errors.Is(err, errMisfit) {
		return dst, w.misfit(p, v)
	}
	if err == nil && p.physical == "int" && (n < math.MinInt32 || n > math.MaxInt32) {
		err = errors.New("does not fit 32 bits")
	}
	if err != nil {
		return dst, w.fail(show(v) + " " + err.Error())
	}
	return binary.AppendVarint(dst, n), nil
}

func (w *writer) decimal(dst []byte, p *plan, v any) ([]byte, error) {
	n, err := decimalOf(p, v)
	if errors.Is(err, errMisfit) {
		return dst, w.misfit(p, v)
	}
	var b []byte
	if err == nil {
		b, err = twosComplement(n, p.size)
	}
	if err != nil {
		return dst, w.fail(fmt.Sprintf("%s %s: decimal(%d,%d)", show(v), err, p.precision, p.scale))
	}
	if p.physical == "bytes" {
		dst = binary.AppendVarint(dst, int64(len(b)))
	}
	return append(dst, b...), nil
}

func (w *writer) array(dst []byte, p *plan, v any) (_ []byte, err error) {
	items, ok := itemsOf(v)
	if !ok {
		return dst, w.misfit(p, v)
	}
	if items.len > 0 {
		dst = binary.AppendVarint(dst, int64(items.len))
	}
	for i := range items.len {
		w.push("", i)
		if dst, err = w.value(dst, p.elem, items.at(i)); err != nil {
			return dst, err
		}
		w.pop()
	}
	return append(dst, 0), nil
}

// mapping writes a map with its keys sorted: equal values have equal bytes.
func (w *writer) mapping(dst []byte, p *plan, v any) (_ []byte, err error) {
	m, ok := mapOf(v)
	if !ok {
		return dst, w.misfit(p, v)
	}
	if len(m) > 0 {
		dst = binary.AppendVarint(dst, int64(len(m)))
	}
	for _, key := range sortedKeys(m) {
		w.push(key, 0)
		if !validText(key) {
			return dst, w.fail("the key is not UTF-8 text")
		}
		dst = append(binary.AppendVarint(dst, int64(len(key))), key...)
		if dst, err = w.value(dst, p.elem, m[key]); err != nil {
			return dst, err
		}
		w.pop()
	}
	return append(dst, 0), nil
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
