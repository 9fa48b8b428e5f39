package avro_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/schemas/avro"
)

// kind is a random type: its schema, and values of it as Decode gives them.
type kind struct {
	schema any
	value  func(*rapid.T) any
	// json turns such a value into what natural JSON has for it; nil: the value itself.
	json func(*rapid.T, any) any
}

// kinds makes random types. Names within one schema must differ.
type kinds struct{ names int }

func (k *kinds) name() string {
	k.names++
	return "N" + strconv.Itoa(k.names)
}

func (k *kinds) any(t *rapid.T, depth int) kind {
	makers := []func(*rapid.T) kind{
		k.boolean, k.int, k.long, k.float, k.double, k.text, k.bytes, k.fixed, k.enum, k.uuid, k.date, k.clock, k.instant, k.decimal,
	}
	if depth > 0 {
		deeper := func(f func(*rapid.T, int) kind) func(*rapid.T) kind {
			return func(t *rapid.T) kind { return f(t, depth-1) }
		}
		makers = append(makers, deeper(k.array), deeper(k.mapping), deeper(k.record), deeper(k.nullable), deeper(k.nullable), deeper(k.union))
	}
	return rapid.SampledFrom(makers).Draw(t, "kind")(t)
}

func simple(schema any, value func(*rapid.T) any) kind { return kind{schema: schema, value: value} }

func (k *kinds) boolean(*rapid.T) kind {
	return simple("boolean", func(t *rapid.T) any { return rapid.Bool().Draw(t, "bool") })
}

func (k *kinds) int(*rapid.T) kind {
	return simple("int", func(t *rapid.T) any { return int64(rapid.Int32().Draw(t, "int")) })
}

func (k *kinds) long(*rapid.T) kind {
	return simple("long", func(t *rapid.T) any { return rapid.Int64().Draw(t, "long") })
}

func (k *kinds) float(*rapid.T) kind {
	return kind{"float", func(t *rapid.T) any { return float64(rapid.Float32().Draw(t, "float")) }, jsonFloat}
}

func (k *kinds) double(*rapid.T) kind {
	return kind{"double", func(t *rapid.T) any { return rapid.Float64().Draw(t, "double") }, jsonFloat}
}

func jsonFloat(_ *rapid.T, v any) any {
	switch f := v.(float64); {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return v
}

func (k *kinds) text(*rapid.T) kind {
	return simple("string", func(t *rapid.T) any { return rapid.String().Draw(t, "string") })
}

func jsonBytes(_ *rapid.T, v any) any {
	var s strings.Builder
	for _, b := range v.([]byte) {
		s.WriteRune(rune(b))
	}
	return s.String()
}

func (k *kinds) bytes(*rapid.T) kind {
	return kind{"bytes", func(t *rapid.T) any { return rapid.SliceOf(rapid.Byte()).Draw(t, "bytes") }, jsonBytes}
}

func (k *kinds) fixed(t *rapid.T) kind {
	size := rapid.IntRange(1, 20).Draw(t, "size")
	schema := map[string]any{"type": "fixed", "name": k.name(), "size": size}
	return kind{schema, func(t *rapid.T) any { return rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "fixed") }, jsonBytes}
}

func (k *kinds) enum(t *rapid.T) kind {
	symbols := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Z]{1,3}`), 1, 4, rapid.ID[string]).Draw(t, "symbols")
	schema := map[string]any{"type": "enum", "name": k.name(), "symbols": symbols}
	return simple(schema, func(t *rapid.T) any { return rapid.SampledFrom(symbols).Draw(t, "symbol") })
}

func (k *kinds) uuid(t *rapid.T) kind {
	schema := map[string]any{"type": "string", "logicalType": "uuid"}
	if rapid.Bool().Draw(t, "fixed uuid") {
		schema = map[string]any{"type": "fixed", "name": k.name(), "size": 16, "logicalType": "uuid"}
	}
	return simple(schema, func(t *rapid.T) any {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	})
}

func (k *kinds) date(*rapid.T) kind {
	return kind{map[string]any{"type": "int", "logicalType": "date"}, func(t *rapid.T) any {
		return time.Unix(int64(rapid.Int32().Draw(t, "day"))*86400, 0).UTC()
	}, func(t *rapid.T, v any) any {
		day := v.(time.Time)
		if year := day.Year(); year < 0 || year > 9999 || rapid.Bool().Draw(t, "number") {
			return day.Unix() / 86400
		}
		return day.Format(time.DateOnly)
	}}
}

func (k *kinds) clock(t *rapid.T) kind {
	schema, unit := map[string]any{"type": "int", "logicalType": "time-millis"}, time.Millisecond
	if rapid.Bool().Draw(t, "micros") {
		schema, unit = map[string]any{"type": "long", "logicalType": "time-micros"}, time.Microsecond
	}
	return kind{schema, func(t *rapid.T) any {
		return time.Duration(rapid.Int64Range(0, int64(24*time.Hour/unit)-1).Draw(t, "clock")) * unit
	}, func(t *rapid.T, v any) any {
		if rapid.Bool().Draw(t, "number") {
			return int64(v.(time.Duration) / unit)
		}
		return time.Time{}.Add(v.(time.Duration)).Format("15:04:05.999999")
	}}
}

func (k *kinds) instant(t *rapid.T) kind {
	unit := rapid.SampledFrom([]string{"millis", "micros", "nanos"}).Draw(t, "unit")
	local := rapid.SampledFrom([]string{"", "local-"}).Draw(t, "local")
	from := map[string]func(int64) time.Time{"millis": time.UnixMilli, "micros": time.UnixMicro, "nanos": func(n int64) time.Time { return time.Unix(0, n) }}[unit]
	perSecond := map[string]int64{"millis": 1e3, "micros": 1e6, "nanos": 1e9}[unit]
	return kind{map[string]any{"type": "long", "logicalType": local + "timestamp-" + unit}, func(t *rapid.T) any {
		// Years that a time.Time prints, and then some. Beyond, time's own arithmetic ends.
		return from(rapid.Int64Range(-perSecond*1e9, perSecond*1e9*9).Draw(t, "instant")).UTC()
	}, func(t *rapid.T, v any) any {
		at := v.(time.Time)
		if year := at.Year(); year < 0 || year > 9999 || rapid.Bool().Draw(t, "number") {
			n := new(big.Int).Mul(big.NewInt(at.Unix()), big.NewInt(perSecond))
			return n.Add(n, big.NewInt(int64(at.Nanosecond())*perSecond/1e9))
		}
		return at.Format(time.RFC3339Nano)
	}}
}

func (k *kinds) decimal(t *rapid.T) kind {
	precision := rapid.IntRange(1, 40).Draw(t, "precision")
	scale := rapid.IntRange(0, precision).Draw(t, "scale")
	schema := map[string]any{"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
	if rapid.Bool().Draw(t, "fixed decimal") {
		schema["type"], schema["name"], schema["size"] = "fixed", k.name(), 17
	}
	return kind{schema, func(t *rapid.T) any {
		digits := rapid.StringMatching(`-?[0-9]{1,`+strconv.Itoa(precision)+`}`).Draw(t, "unscaled")
		n, _ := new(big.Int).SetString(digits, 10)
		return new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil))
	}, func(t *rapid.T, v any) any {
		text := v.(*big.Rat).FloatString(scale)
		if rapid.Bool().Draw(t, "as number") {
			return json.Number(text)
		}
		return text
	}}
}

func (k *kinds) array(t *rapid.T, depth int) kind {
	elem := k.any(t, depth)
	return kind{map[string]any{"type": "array", "items": elem.schema}, func(t *rapid.T) any {
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			list = append(list, elem.value(t))
		}
		return list
	}, func(t *rapid.T, v any) any {
		list := []any{}
		for _, item := range v.([]any) {
			list = append(list, elem.natural(t, item))
		}
		return list
	}}
}

func (k *kinds) mapping(t *rapid.T, depth int) kind {
	elem := k.any(t, depth)
	return kind{map[string]any{"type": "map", "values": elem.schema}, func(t *rapid.T) any {
		m := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "entries") {
			m[rapid.String().Draw(t, "key")] = elem.value(t)
		}
		return m
	}, func(t *rapid.T, v any) any {
		m := map[string]any{}
		for key, item := range v.(map[string]any) {
			m[key] = elem.natural(t, item)
		}
		return m
	}}
}

func (k *kinds) record(t *rapid.T, depth int) kind {
	count := rapid.IntRange(1, 4).Draw(t, "fields")
	fields := make([]map[string]any, count)
	types := make([]kind, count)
	schema := map[string]any{"type": "record", "name": k.name(), "fields": fields}
	for i := range types {
		types[i] = k.any(t, depth)
		fields[i] = map[string]any{"name": "f" + strconv.Itoa(i), "type": types[i].schema}
	}
	return kind{schema, func(t *rapid.T) any {
		m := map[string]any{}
		for i, f := range types {
			m["f"+strconv.Itoa(i)] = f.value(t)
		}
		return m
	}, func(t *rapid.T, v any) any {
		m := map[string]any{}
		for i, f := range types {
			name := "f" + strconv.Itoa(i)
			m[name] = f.natural(t, v.(map[string]any)[name])
		}
		return m
	}}
}

func (k *kinds) nullable(t *rapid.T, depth int) kind {
	inner := k.any(t, depth)
	for {
		if _, union := inner.schema.([]any); !union {
			break
		}
		inner = k.text(t)
	}
	schema := []any{"null", inner.schema}
	if rapid.Bool().Draw(t, "null last") {
		schema = []any{inner.schema, "null"}
	}
	return kind{schema, func(t *rapid.T) any {
		if rapid.Bool().Draw(t, "null") {
			return nil
		}
		return inner.value(t)
	}, func(t *rapid.T, v any) any {
		if v == nil {
			return nil
		}
		return inner.natural(t, v)
	}}
}

// union has branches whose bare values cannot be taken for each other.
func (k *kinds) union(t *rapid.T, depth int) kind {
	branches := []kind{k.boolean(t), k.long(t), k.text(t), k.array(t, depth), k.record(t, depth)}
	branches = rapid.Permutation(branches).Draw(t, "branches")
	schema := []any{"null"}
	for _, b := range branches {
		schema = append(schema, b.schema)
	}
	pick := rapid.IntRange(-1, len(branches)-1)
	// A value has to remember its branch until it is written as JSON.
	chosen := func(v any) int {
		switch v.(type) {
		case nil:
			return -1
		default:
			for i, b := range branches {
				if sameShape(b.schema, v) {
					return i
				}
			}
		}
		panic("a value of no branch")
	}
	return kind{schema, func(t *rapid.T) any {
		i := pick.Draw(t, "branch")
		if i < 0 {
			return nil
		}
		return branches[i].value(t)
	}, func(t *rapid.T, v any) any {
		i := chosen(v)
		if i < 0 {
			return nil
		}
		return branches[i].natural(t, v)
	}}
}

func sameShape(schema, v any) bool {
	switch v.(type) {
	case bool:
		return schema == "boolean"
	case int64:
		return schema == "long"
	case string:
		return schema == "string"
	}
	object, ok := schema.(map[string]any)
	if !ok {
		return false
	}
	_, list := v.([]any)
	return list == (object["type"] == "array")
}

func (k kind) natural(t *rapid.T, v any) any {
	if k.json == nil {
		return v
	}
	return k.json(t, v)
}

func compileRandom(t *rapid.T, schema any) *avro.Codec {
	text, err := json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := avro.New(string(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return codec
}

func TestRandomValuesSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root := (&kinds{}).record(t, 3)
		codec := compileRandom(t, root.schema)
		for range 4 {
			value := root.value(t)
			binary := mustEncode(t, codec, value)
			got := mustDecode(t, codec, binary)
			if !same(value, got) {
				t.Fatalf("%s\n wrote %v\n  read %v", codec.Schema().Text, value, got)
			}
			if again := mustEncode(t, codec, got); !bytes.Equal(again, binary) {
				t.Fatalf("%s\n%v\n first %x\n again %x", codec.Schema().Text, value, binary, again)
			}
			natural, err := json.Marshal(root.natural(t, value))
			if err != nil {
				t.Fatal(err)
			}
			fromJSON, err := codec.AppendEncodeJSON(nil, natural)
			if err != nil || !bytes.Equal(fromJSON, binary) {
				t.Fatalf("%s\n%s: %v\n want %x\n  got %x", codec.Schema().Text, natural, err, binary, fromJSON)
			}
		}
	})
}

// TestGoavroAgrees is the second opinion: what Millrace writes goavro reads, and the other way round.
func TestGoavroAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root := (&kinds{}).record(t, 3)
		codec := compileRandom(t, root.schema)
		if fault := goavroFault(root.schema); fault != "" {
			t.Skip(fault)
		}
		other, err := goavro.NewCodec(codec.Schema().Text)
		if err != nil {
			t.Fatalf("%s: %v", codec.Schema().Text, err)
		}
		for range 4 {
			value := root.value(t)
			binary := mustEncode(t, codec, value)
			native, rest, err := other.NativeFromBinary(binary)
			if err != nil || len(rest) > 0 {
				t.Fatalf("%s\n%v: goavro cannot read it: %v, %d bytes over", codec.Schema().Text, value, err, len(rest))
			}
			written, err := other.BinaryFromNative(nil, native)
			if err != nil {
				t.Fatalf("%s\n%v: goavro cannot write it: %v", codec.Schema().Text, native, err)
			}
			if got := mustDecode(t, codec, written); !same(value, got) {
				t.Fatalf("%s\n wrote %v\n goavro %v", codec.Schema().Text, value, got)
			}
		}
	})
}

// goavroFault names the fault of goavro 2.15.0 that makes a schema useless as a second opinion; "" if there is none.
func goavroFault(schema any) string {
	switch schema := schema.(type) {
	case []any:
		for _, branch := range schema {
			if fault := goavroFault(branch); fault != "" {
				return fault
			}
		}
	case []map[string]any:
		for _, field := range schema {
			if fault := goavroFault(field["type"]); fault != "" {
				return fault
			}
		}
	case map[string]any:
		if schema["type"] == "fixed" && schema["logicalType"] == "decimal" {
			return "a fixed decimal of zero cannot be written"
		}
		for _, inner := range []string{"items", "values", "fields"} {
			if fault := goavroFault(schema[inner]); fault != "" {
				return fault
			}
		}
	}
	return ""
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func mustEncode(t fataler, codec *avro.Codec, v any) []byte {
	t.Helper()
	b, err := codec.AppendEncode(nil, v)
	if err != nil {
		t.Fatalf("%s\n%v: %v", codec.Schema().Text, v, err)
	}
	return b
}

func mustDecode(t fataler, codec *avro.Codec, b []byte) map[string]any {
	t.Helper()
	v, err := codec.Decode(b)
	if err != nil {
		t.Fatalf("%s\n%x: %v", codec.Schema().Text, b, err)
	}
	return v
}

// same compares decoded values.
func same(a, b any) bool {
	switch a := a.(type) {
	case *big.Rat:
		b, ok := b.(*big.Rat)
		return ok && a.Cmp(b) == 0
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b) && b.Location() == time.UTC
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case float64:
		b, ok := b.(float64)
		return ok && (a == b || math.IsNaN(a) && math.IsNaN(b))
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key := range a {
			other, ok := b[key]
			if !ok || !same(a[key], other) {
				return false
			}
		}
		return true
	}
	return a == b
}
