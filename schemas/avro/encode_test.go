package avro_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

func newCodec(t testing.TB, text string) *avro.Codec {
	t.Helper()
	c, err := avro.New(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// one is the codec of a record with one field, f.
func one(t testing.TB, typ string) *avro.Codec {
	t.Helper()
	return newCodec(t, `{"type":"record","name":"R","namespace":"t","fields":[{"name":"f","type":`+typ+`}]}`)
}

const (
	tDecimal   = `{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}`
	tFixedDec  = `{"type":"fixed","name":"D","size":2,"logicalType":"decimal","precision":4,"scale":2}`
	tMillis    = `{"type":"long","logicalType":"timestamp-millis"}`
	tMicros    = `{"type":"long","logicalType":"timestamp-micros"}`
	tNanos     = `{"type":"long","logicalType":"timestamp-nanos"}`
	tLocal     = `{"type":"long","logicalType":"local-timestamp-micros"}`
	tDate      = `{"type":"int","logicalType":"date"}`
	tClock     = `{"type":"int","logicalType":"time-millis"}`
	tUUID      = `{"type":"string","logicalType":"uuid"}`
	tFixedUUID = `{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}`
	tEnum      = `{"type":"enum","name":"E","symbols":["A","B"]}`
	tFixed     = `{"type":"fixed","name":"F","size":2}`
	tInner     = `{"type":"record","name":"I","fields":[{"name":"a","type":"int"},{"name":"b","type":["null","string"]}]}`
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}

// TestJSONIsWrittenExactly: natural JSON, and what is read back.
func TestJSONIsWrittenExactly(t *testing.T) {
	for _, tc := range []struct {
		typ, json string
		want      any
	}{
		{`"long"`, `9007199254740993`, int64(9007199254740993)}, // 2^53+1
		{`"long"`, `-9223372036854775808`, int64(math.MinInt64)},
		{`"long"`, `9223372036854775807`, int64(math.MaxInt64)},
		{`"long"`, `1.0`, int64(1)},
		{`"long"`, `12e2`, int64(1200)},
		{`"long"`, `-0`, int64(0)},
		{`"int"`, `2147483647`, int64(math.MaxInt32)},
		{`"double"`, `0.1`, 0.1},
		{`"double"`, `3`, 3.0},
		{`"double"`, `"-Infinity"`, math.Inf(-1)},
		{`"float"`, `0.5`, 0.5},
		{`"float"`, `"NaN"`, math.NaN()},
		{`"boolean"`, `true`, true},
		{`"null"`, `null`, nil},
		{`"string"`, `"\u00e9\u0000\ud83d\ude00"`, "é\x00😀"},
		{`"bytes"`, `"\u0000\u00ff"`, []byte{0, 255}},
		{tFixed, `"ab"`, []byte("ab")},
		{tEnum, `"B"`, "B"},
		{tUUID, `"6BA7B810-9dad-11d1-80b4-00c04fd430c8"`, "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
		{tFixedUUID, `"6ba7b810-9dad-11d1-80b4-00c04fd430c8"`, "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
		{tDecimal, `12.34`, big.NewRat(1234, 100)},
		{tDecimal, `"12.34"`, big.NewRat(1234, 100)},
		{tDecimal, `-9999.99`, big.NewRat(-999999, 100)},
		{tDecimal, `12.340000`, big.NewRat(1234, 100)},
		{tDecimal, `0.0000000`, new(big.Rat)},
		{tDecimal, `1.2e3`, big.NewRat(1200, 1)},
		{tDecimal, `"-1.28"`, big.NewRat(-128, 100)},
		{tFixedDec, `-0.01`, big.NewRat(-1, 100)},
		{tFixedDec, `99.99`, big.NewRat(9999, 100)},
		{tMillis, `"2024-05-01T12:30:00.123Z"`, at("2024-05-01T12:30:00.123Z")},
		{tMillis, `"2024-05-01T12:30:00+02:00"`, at("2024-05-01T10:30:00Z")},
		{tMillis, `1714566600123`, at("2024-05-01T12:30:00.123Z")},
		{tMicros, `"1969-12-31T23:59:59.999999Z"`, at("1969-12-31T23:59:59.999999Z")},
		{tMicros, `"2024-05-01T12:30:00.123456789Z"`, at("2024-05-01T12:30:00.123456Z")},
		{tNanos, `"2024-05-01T12:30:00.123456789Z"`, at("2024-05-01T12:30:00.123456789Z")},
		{tLocal, `"2024-05-01T12:30:00.5"`, at("2024-05-01T12:30:00.5Z")},
		{tLocal, `"2024-05-01T12:30:00Z"`, at("2024-05-01T12:30:00Z")},
		{tDate, `"2024-05-01"`, at("2024-05-01T00:00:00Z")},
		{tDate, `"2024-05-01T00:30:00+02:00"`, at("2024-05-01T00:00:00Z")},
		{tDate, `-1`, at("1969-12-31T00:00:00Z")},
		{tClock, `"23:59:59.999"`, 24*time.Hour - time.Millisecond},
		{tClock, `1000`, time.Second},
		{`{"type":"array","items":"int"}`, `[1,2]`, []any{int64(1), int64(2)}},
		{`{"type":"array","items":"int"}`, `[]`, []any{}},
		{`{"type":"map","values":"int"}`, `{"":1}`, map[string]any{"": int64(1)}},
		{tInner, `{"a":1}`, map[string]any{"a": int64(1), "b": nil}},
		{`["null",` + tInner + `]`, `{"a":1,"b":"x"}`, map[string]any{"a": int64(1), "b": "x"}},
		{`["null",` + tInner + `]`, `{"t.I":{"a":1}}`, map[string]any{"a": int64(1), "b": nil}},
		{`["null",{"type":"map","values":"int"}]`, `{"map":1}`, map[string]any{"map": int64(1)}},
		{`["null","string"]`, `null`, nil},
		{`["string","null"]`, `"x"`, "x"},
		{`["null","int","long"]`, `7`, int64(7)},
		{`["null","double","long"]`, `9007199254740993`, int64(9007199254740993)},
		{`["null","long","double"]`, `1.5`, 1.5},
		{`["null","long","string"]`, `{"string":"x"}`, "x"},
		{`["int","string",` + tInner + `]`, `{"a":2}`, map[string]any{"a": int64(2), "b": nil}},
		{`["int",{"type":"map","values":"int"}]`, `{"int":2}`, map[string]any{"int": int64(2)}},
		{`["null","long",{"type":"array","items":["null","string"]}]`, `["a",null]`, []any{"a", nil}},
	} {
		codec := one(t, tc.typ)
		b, err := codec.AppendEncodeJSON(nil, []byte(`{"f":`+tc.json+`}`))
		if err != nil {
			t.Errorf("%s %s: %v", tc.typ, tc.json, err)
			continue
		}
		if got := mustDecode(t, codec, b); !same(tc.want, got["f"]) {
			t.Errorf("%s %s: read back %v, want %v", tc.typ, tc.json, got["f"], tc.want)
		}
	}
}

func TestJSONThatDoesNotFitNamesTheField(t *testing.T) {
	for _, tc := range []struct{ typ, json, field, reason string }{
		{`"int"`, `2147483648`, "f", "32 bits"},
		{`"long"`, `9223372036854775808`, "f", "64 bits"},
		{`"long"`, `1.5`, "f", "whole number"},
		{`"long"`, `1e400`, "f", "digits"},
		{`"long"`, `1e999999999`, "f", "not a number"},
		{`"long"`, `"1"`, "f", `"1" is not a whole number`},
		{`"long"`, `null`, "f", "null"},
		{`"float"`, `1e300`, "f", "32 bits"},
		{`"double"`, `"much"`, "f", "a number"},
		{`"boolean"`, `1`, "f", "true or false"},
		{`"null"`, `0`, "f", "null"},
		{`"string"`, `1`, "f", "a string"},
		{`"bytes"`, `"\u0100"`, "f", "U+00FF"},
		{tFixed, `"abc"`, "f", "3 bytes"},
		{tEnum, `"C"`, "f", "A, B"},
		{tUUID, `"6ba7b810"`, "f", "uuid"},
		{tUUID, `"6ba7b810-9dad-11d1-80b4-00c04fd430cx"`, "f", "uuid"},
		{tDecimal, `12.345`, "f", "more decimals"},
		{tDecimal, `10000`, "f", "more digits"},
		{tDecimal, `1e999999999`, "f", "not a number"},
		{tDecimal, `"1e99999"`, "f", "more digits"},
		{tDecimal, `"1/3"`, "f", "not a number"},
		{tDecimal, `"0x10"`, "f", "not a number"},
		{tDecimal, `""`, "f", "not a number"},
		{tDecimal, `true`, "f", "decimal(6,2)"},
		{tFixedDec, `100`, "f", "more digits"},
		{tMillis, `"yesterday"`, "f", "RFC 3339"},
		{tMillis, `"2024-05-01T12:30:00"`, "f", "RFC 3339"},
		{tMillis, `1.5`, "f", "whole number"},
		{tNanos, `"2500-01-01T00:00:00Z"`, "f", "range"},
		{tLocal, `"2024-05-01T12:30:00+02:00"`, "f", "zone"},
		{tDate, `"01.05.2024"`, "f", "a date"},
		{tDate, `2147483648`, "f", "32 bits"},
		{tClock, `"25:00:00"`, "f", "time of day"},
		{`{"type":"array","items":"int"}`, `[1,"x"]`, "f[1]", "whole number"},
		{`{"type":"array","items":"int"}`, `{}`, "f", "a list"},
		{`{"type":"array","items":"int"}`, `null`, "f", "null"},
		{`{"type":"map","values":"int"}`, `{"k":"x"}`, "f.k", "whole number"},
		{`{"type":"map","values":"int"}`, `[]`, "f", "an object"},
		{tInner, `{}`, "f.a", "missing"},
		{tInner, `{"a":1,"c":2}`, "f.c", "not a field of t.I"},
		{tInner, `7`, "f", "fields of t.I"},
		{`{"type":"array","items":["null",` + tInner + `]}`, `[null,{"a":"x"}]`, "f[1].a", "whole number"},
		{`["int","string"]`, `null`, "f", "null"},
		{`["null","int","string"]`, `true`, "f", "no branch"},
		{`["null","int",` + tInner + `]`, `{"a":"x"}`, "f.a", "whole number"},
	} {
		codec := one(t, tc.typ)
		before := []byte("before")
		got, err := codec.AppendEncodeJSON(before, []byte(`{"f":`+tc.json+`}`))
		var fe *avro.FieldError
		if !errors.As(err, &fe) || fe.Schema != "t.R" || fe.Field != tc.field || !strings.Contains(fe.Reason, tc.reason) {
			t.Errorf("%s %s: got %v, want field %s: ...%s...", tc.typ, tc.json, err, tc.field, tc.reason)
		}
		if string(got) != "before" {
			t.Errorf("%s %s: dst is %q afterwards", tc.typ, tc.json, got)
		}
	}
}

func TestWhatIsNotAnObjectIsAnError(t *testing.T) {
	codec := one(t, `"int"`)
	for _, body := range []string{``, `{`, `null`, `[]`, `7`, `{"f":1}{"f":2}`, `{"f":1} x`, "{\"f\":1,\"\xff\":2}", strings.Repeat(`{"f":`, 100_000)} {
		var fe *avro.FieldError
		if _, err := codec.AppendEncodeJSON(nil, []byte(body)); !errors.As(err, &fe) || fe.Schema != "t.R" {
			t.Errorf("%.30q: %v", body, err)
		}
	}
}

func TestMissingFieldsTakeTheirDefaults(t *testing.T) {
	codec := newCodec(t, `{"type":"record","name":"R","fields":[
		{"name":"n","type":"long","default":7},
		{"name":"s","type":["null","string"]},
		{"name":"t","type":["string","null"],"default":"x"},
		{"name":"u","type":["string","null"]},
		{"name":"d","type":`+tDecimal+`,"default":"\u00ff"},
		{"name":"b","type":"bytes","default":"\u00fe"},
		{"name":"at","type":`+tMicros+`,"default":1},
		{"name":"e","type":`+tEnum+`,"default":"B"},
		{"name":"l","type":{"type":"array","items":"E"},"default":["A","B"]},
		{"name":"m","type":{"type":"map","values":"float"},"default":{"k":0.5}},
		{"name":"r","type":`+tInner+`,"default":{"a":1,"b":null}}]}`)
	want := map[string]any{
		"n": int64(7), "s": nil, "t": "x", "u": nil, "d": big.NewRat(-1, 100), "b": []byte{0xfe}, "at": time.UnixMicro(1).UTC(), "e": "B",
		"l": []any{"A", "B"}, "m": map[string]any{"k": 0.5}, "r": map[string]any{"a": int64(1), "b": nil},
	}
	type nothing struct{}
	for name, encode := range map[string]func() ([]byte, error){
		"JSON":   func() ([]byte, error) { return codec.AppendEncodeJSON(nil, []byte(`{}`)) },
		"map":    func() ([]byte, error) { return codec.AppendEncode(nil, map[string]any{}) },
		"struct": func() ([]byte, error) { return codec.AppendEncode(nil, nothing{}) },
	} {
		b, err := encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := mustDecode(t, codec, b); !same(want, got) {
			t.Errorf("%s:\n got %v\nwant %v", name, got, want)
		}
	}
}

type text string

type named int16

func TestGoValues(t *testing.T) {
	id := uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	word, number := "x", 3
	var noWord *string
	zone := time.FixedZone("", 2*60*60)
	for i, tc := range []struct {
		typ   string
		value any
		want  any // nil with ok false: an error
		ok    bool
	}{
		{`"int"`, uint8(7), int64(7), true},
		{`"int"`, named(7), int64(7), true},
		{`"int"`, &number, int64(3), true},
		{`"long"`, uint64(math.MaxUint64), nil, false},
		{`"long"`, 3.0, int64(3), true},
		{`"long"`, 3.5, nil, false},
		{`"long"`, float64(1 << 60), nil, false},
		{`"long"`, math.NaN(), nil, false},
		{`"long"`, big.NewInt(5), int64(5), true},
		{`"long"`, time.Second, nil, false},
		{`"long"`, json.Number("9007199254740993"), int64(9007199254740993), true},
		{`"double"`, 7, 7.0, true},
		{`"double"`, float32(0.5), 0.5, true},
		{`"double"`, "NaN", nil, false},
		{`"double"`, big.NewRat(1, 2), 0.5, true},
		{`"boolean"`, "true", nil, false},
		{`"string"`, text("x"), "x", true},
		{`"string"`, &word, "x", true},
		{`"string"`, id, id.String(), true},
		{`"string"`, 7, nil, false},
		{`"string"`, time.Now(), nil, false},
		{`"string"`, json.Number("7"), nil, false},
		{`"string"`, []byte("x"), nil, false},
		{`"string"`, "\xff", nil, false},
		{`"string"`, sql.NullString{String: "x", Valid: true}, "x", true},
		{`["null","string"]`, sql.NullString{}, nil, true},
		{`["null","string"]`, sql.Null[string]{V: "y", Valid: true}, "y", true},
		{`["null","string"]`, noWord, nil, true},
		{`["null","bytes"]`, []byte(nil), nil, true},
		{`["null","bytes"]`, []byte{}, []byte{}, true},
		{`["null",{"type":"array","items":"int"}]`, []int(nil), nil, true},
		{`"bytes"`, "x", nil, false}, // text or bytes? Only JSON has no choice
		{`"bytes"`, [2]byte{1, 2}, []byte{1, 2}, true},
		{`"bytes"`, json.RawMessage(`{}`), []byte(`{}`), true},
		{tFixed, []byte{1, 2}, []byte{1, 2}, true},
		{tFixed, []byte{1}, nil, false},
		{tEnum, text("A"), "A", true},
		{tUUID, id, id.String(), true},
		{tUUID, [16]byte(id), id.String(), true},
		{tFixedUUID, id, id.String(), true},
		{tFixedUUID, id.String(), id.String(), true},
		{tDecimal, big.NewRat(1, 3), nil, false},
		{tDecimal, big.NewRat(1, 4), big.NewRat(1, 4), true},
		{tDecimal, *big.NewRat(1, 4), big.NewRat(1, 4), true},
		{tDecimal, big.NewRat(1_000_000, 100), nil, false},
		{tDecimal, (*big.Rat)(nil), nil, false},
		{tDecimal, 12, big.NewRat(12, 1), true},
		{tDecimal, uint16(12), big.NewRat(12, 1), true},
		{tDecimal, "12.5", big.NewRat(25, 2), true},
		{tDecimal, 12.5, nil, false}, // a float is not exact
		{tDecimal, time.Second, nil, false},
		{tMicros, time.Date(2024, 5, 1, 12, 0, 0, 123_456_789, zone), at("2024-05-01T10:00:00.123456Z"), true},
		{tLocal, time.Date(2024, 5, 1, 12, 0, 0, 0, zone), at("2024-05-01T12:00:00Z"), true},
		{tNanos, time.Time{}, nil, false}, // the year 1 in nanoseconds
		{tMicros, sql.NullTime{Time: at("2024-05-01T10:00:00Z"), Valid: true}, at("2024-05-01T10:00:00Z"), true},
		{tDate, time.Date(2024, 5, 1, 1, 0, 0, 0, zone), at("2024-05-01T00:00:00Z"), true},
		{tClock, 90 * time.Second, 90 * time.Second, true},
		{tClock, -time.Second, nil, false},
		{tClock, 24 * time.Hour, nil, false},
		{`{"type":"array","items":"string"}`, []text{"a"}, []any{"a"}, true},
		{`{"type":"array","items":"string"}`, [1]string{"a"}, []any{"a"}, true},
		{`{"type":"array","items":"string"}`, []string(nil), []any{}, true},
		{`{"type":"array","items":"int"}`, []byte{1}, nil, false},
		{`{"type":"map","values":"int"}`, map[text]int8{"a": 1}, map[string]any{"a": int64(1)}, true},
		{`{"type":"map","values":"int"}`, map[string]int(nil), map[string]any{}, true},
		{`{"type":"map","values":"int"}`, map[int]int{}, nil, false},
		{tInner, map[string]int{"a": 1}, map[string]any{"a": int64(1), "b": nil}, true},
		{tInner, map[string]any(nil), nil, false},
		{`["null","int","string"]`, &number, int64(3), true},
		{`["null","long","double"]`, 3.0, 3.0, true},
		{`["null","long","string"]`, map[string]any{"long": 5}, int64(5), true},
		{`"string"`, make(chan int), nil, false},
	} {
		codec := one(t, tc.typ)
		b, err := codec.AppendEncode(nil, map[string]any{"f": tc.value})
		var fe *avro.FieldError
		if !tc.ok {
			if !errors.As(err, &fe) || !strings.HasPrefix(fe.Field, "f") {
				t.Errorf("%d: %s %T(%v): got %v, want an error for f", i, tc.typ, tc.value, tc.value, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d: %s %T(%v): %v", i, tc.typ, tc.value, tc.value, err)
			continue
		}
		if got := mustDecode(t, codec, b); !same(tc.want, got["f"]) {
			t.Errorf("%d: %s %T(%v): read back %v, want %v", i, tc.typ, tc.value, tc.value, got["f"], tc.want)
		}
	}
}

func TestPointersWithoutEndAreAnError(t *testing.T) {
	var p any
	p = &p
	loop := map[string]any{}
	loop["next"] = loop
	if _, err := one(t, `"int"`).AppendEncode(nil, map[string]any{"f": p}); err == nil {
		t.Error("a pointer to itself was taken")
	}
	tree := newCodec(t, `{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node"]}]}`)
	if _, err := tree.AppendEncode(nil, loop); err == nil || len(err.Error()) > 10_000 {
		t.Errorf("a map that contains itself: %.100v", err)
	}
	if !tree.Recursive() || one(t, tInner).Recursive() {
		t.Error("Recursive is wrong")
	}
}

func TestEqualValuesHaveEqualBytes(t *testing.T) {
	codec := one(t, `{"type":"map","values":"int"}`)
	m := map[string]any{}
	for i := range 50 {
		m[fmt.Sprint(i)] = i
	}
	first := mustEncode(t, codec, map[string]any{"f": m})
	for range 10 {
		if got := mustEncode(t, codec, map[string]any{"f": m}); string(got) != string(first) {
			t.Fatal("the bytes differ")
		}
	}
}

func TestSchemasThatAreNoneAreErrors(t *testing.T) {
	for _, text := range []string{``, `"string"`, `{"type":"enum","name":"E","symbols":["A"]}`, `{"type":"record","name":"R","fields":[{"name":"a","type":"b"}]}`} {
		var e *schemas.Error
		if _, err := avro.New(text); !errors.As(err, &e) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestFieldsDescribeTheSchema(t *testing.T) {
	codec := newCodec(t, `{"type":"record","name":"t.R","fields":[
		{"name":"d","type":["null",`+tDecimal+`]},
		{"name":"e","type":`+tEnum+`},
		{"name":"l","type":{"type":"array","items":["null","t.E"]}},
		{"name":"r","type":`+tInner+`},
		{"name":"u","type":["null","int","string"]},
		{"name":"n","type":{"type":"long","logicalType":"nonsense"}},
		{"name":"w","type":{"type":"long","logicalType":"date"}},
		{"name":"p","type":{"type":"fixed","name":"P","size":12,"logicalType":"duration"}},
		{"name":"o","type":["t.R","null"]}]}`)
	var got []string
	for _, f := range codec.Fields() {
		got = append(got, describe(f.Name, f.Type))
	}
	want := []string{
		"d decimal? (6,2)", "e enum [A B] t.E", "l array of enum? [A B] t.E", "r record t.I {a int, b string?}", "u union?",
		"n long", "w long", "p bytes t.P", "o record? t.R",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func describe(name string, typ avro.Type) string {
	s := name + " " + typ.Kind.String()
	if typ.Nullable {
		s += "?"
	}
	if typ.Precision > 0 {
		s += fmt.Sprintf(" (%d,%d)", typ.Precision, typ.Scale)
	}
	if typ.Elem != nil {
		s += " " + describe("of", *typ.Elem)
	}
	if len(typ.Symbols) > 0 {
		s += fmt.Sprint(" ", typ.Symbols)
	}
	if typ.Name != "" {
		s += " " + typ.Name
	}
	if len(typ.Fields) > 0 {
		var fields []string
		for _, f := range typ.Fields {
			fields = append(fields, describe(f.Name, f.Type))
		}
		s += " {" + strings.Join(fields, ", ") + "}"
	}
	return s
}
