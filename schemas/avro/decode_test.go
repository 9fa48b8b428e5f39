package avro_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/schemas/avro"
)

func varint(n int64) []byte { return binary.AppendVarint(nil, n) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestHostilePayloadsAreErrorsAndCheap: every one of these has crashed or stalled some Avro library.
func TestHostilePayloadsAreErrorsAndCheap(t *testing.T) {
	const (
		empty = `{"type":"record","name":"Empty","fields":[]}`
		node  = `{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node"]}]}`
		wide  = `{"type":"record","name":"Wide","fields":[{"name":"kids","type":{"type":"array","items":"Wide"}}]}`
	)
	for name, tc := range map[string]struct {
		schema  string
		payload []byte
	}{
		"2^60 empty records":              {array(empty), join(varint(1<<60), varint(0))},
		"2^60 nulls":                      {array(`"null"`), join(varint(1<<60), varint(0))},
		"2^60 empty records, with a size": {array(empty), join(varint(-(1 << 60)), varint(0), varint(0))},
		"a block of the smallest count":   {array(`"int"`), join(varint(-1<<63), varint(0), varint(0))},
		"many blocks of empty records":    {array(empty), bytes.Repeat(varint(1<<12), 1<<12)},
		"2^60 longs":                      {array(`"long"`), join(varint(1<<60), varint(7))},
		"2^60 entries of a map":           {field(`{"type":"map","values":"null"}`), join(varint(1<<60), varint(0))},
		"2^60 bytes":                      {field(`"bytes"`), varint(1 << 60)},
		"a string of a negative length":   {field(`"string"`), varint(-1)},
		"a string of the smallest length": {field(`"string"`), varint(-1 << 63)},
		"a decimal of 2^60 bytes":         {field(tDecimal), varint(1 << 60)},
		"a decimal of a megabyte":         {field(tDecimal), join(varint(1<<20), bytes.Repeat([]byte{0x7f}, 1<<20))},
		"a million levels":                {node, bytes.Repeat(varint(1), 1<<20)},
		"a million levels of arrays":      {wide, bytes.Repeat(varint(1), 1<<20)},
		"a branch that is not there":      {field(`["null","int"]`), varint(2)},
		"a branch below zero":             {field(`["null","int"]`), varint(-1)},
		"a symbol that is not there":      {field(tEnum), varint(2)},
		"a symbol below zero":             {field(tEnum), varint(-1)},
		"a number that never ends":        {field(`"long"`), bytes.Repeat([]byte{0xff}, 20)},
		"an int of 64 bits":               {field(`"int"`), varint(1 << 40)},
		"cut off":                         {field(`"long"`), []byte{0x80}},
		"nothing":                         {field(`"long"`), nil},
		"half a double":                   {field(`"double"`), []byte{1, 2, 3, 4}},
		"half a fixed":                    {field(tFixed), []byte{1}},
		"a byte too many":                 {field(`"int"`), join(varint(1), []byte{0})},
		"too large":                       {field(`"bytes"`), make([]byte, avro.MaxPayload+1)},
		"a block without its end":         {array(`"int"`), join(varint(1), varint(1))},
	} {
		t.Run(name, func(t *testing.T) {
			codec := newCodec(t, tc.schema)
			isCheap(t, func() error { _, err := codec.Decode(tc.payload); return err })
			isCheap(t, func() error { _, err := codec.SelectAll().Append(nil, tc.payload); return err })
			isCheap(t, func() error { _, err := codec.Select().Append(nil, tc.payload); return err })
		})
	}
}

func isCheap(t *testing.T, decode func() error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err := decode()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	var de *avro.DecodeError
	if !errors.As(err, &de) || len(err.Error()) > 1000 {
		t.Fatalf("got %.200v", err)
	}
	if took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if spent := after.TotalAlloc - before.TotalAlloc; spent > 256<<20 {
		t.Errorf("it took %d MiB", spent>>20)
	}
}

// TestValuesThatTheirTypeDoesNotAllowAreErrors: bytes that are Avro, and values that no sink could take.
func TestValuesThatTheirTypeDoesNotAllowAreErrors(t *testing.T) {
	text := func(s string) []byte { return join(varint(int64(len(s))), []byte(s)) }
	for name, tc := range map[string]struct {
		typ     string
		payload []byte
		want    string
	}{
		"text":                  {`"string"`, text("\xff"), "field f: is not UTF-8"},
		"text that may be null": {`["null","string"]`, join(varint(1), text("\xff")), "field f: is not UTF-8"},
		"text of a union":       {`["null","int","string"]`, join(varint(2), text("\xff")), "field f: is not UTF-8"},
		"text in a list":        {`{"type":"array","items":"string"}`, join(varint(2), text("a"), text("\xff"), varint(0)), "field f[1]: is not UTF-8"},
		"text in a map":         {`{"type":"map","values":"string"}`, join(varint(1), text("k"), text("\xff"), varint(0)), "field f.k: is not UTF-8"},
		"text of an empty key":  {`{"type":"map","values":{"type":"map","values":"string"}}`, join(varint(1), text("k"), varint(1), text(""), text("\xff"), varint(0), varint(0)), "is not UTF-8"},
		"a key":                 {`{"type":"map","values":"int"}`, join(varint(1), text("\xff"), varint(0), varint(0)), "field f: a key is not UTF-8"},
		"text in a record":      {`{"type":"record","name":"I","fields":[{"name":"g","type":"string"}]}`, text("\xff"), "field f.g: is not UTF-8"},
		"a uuid":                {tUUID, text("me"), "field f: is not a uuid"},
		"a decimal":             {tDecimal, join(varint(3), []byte{0x7f, 0xff, 0xff}), "field f: has more digits"},
		"a time of day":         {tClock, varint(-1), "field f: is no time of day"},
		"a late time of day":    {tClock, varint(86_400_000), "field f: is no time of day"},
	} {
		var de *avro.DecodeError
		if _, err := newCodec(t, field(tc.typ)).Decode(tc.payload); !errors.As(err, &de) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want ...%s...", name, err, tc.want)
		}
	}
}

func field(typ string) string {
	return `{"type":"record","name":"R","fields":[{"name":"f","type":` + typ + `}]}`
}

func array(items string) string { return field(`{"type":"array","items":` + items + `}`) }

func TestDecodedValuesDoNotShareMemory(t *testing.T) {
	codec := newCodec(t, `{"type":"record","name":"R","fields":[{"name":"s","type":"string"},{"name":"b","type":"bytes"},{"name":"d","type":"bytes","default":"x"}]}`)
	payload := mustEncode(t, codec, map[string]any{"s": "word", "b": []byte("bytes")})
	got := mustDecode(t, codec, payload)
	clear(payload)
	if got["s"] != "word" || string(got["b"].([]byte)) != "bytes" {
		t.Fatalf("%v", got)
	}
}

func TestBlocksWithSizesAreRead(t *testing.T) {
	got := mustDecode(t, newCodec(t, array(`"int"`)), join(varint(-2), varint(2), varint(1), varint(2), varint(1), varint(3), varint(0)))
	if !same([]any{int64(1), int64(2), int64(3)}, got["f"]) {
		t.Fatalf("%v", got)
	}
}

func TestBigDecimalAndDurationStayBytes(t *testing.T) {
	codec := newCodec(t, `{"type":"record","name":"R","fields":[
		{"name":"b","type":{"type":"bytes","logicalType":"big-decimal"}},
		{"name":"d","type":["null",{"type":"fixed","name":"D","size":12,"logicalType":"duration"}]}]}`)
	value := map[string]any{"b": []byte{2, 5, 4}, "d": []byte("123456789012")}
	if got := mustDecode(t, codec, mustEncode(t, codec, value)); !same(value, got) {
		t.Fatalf("%v", got)
	}
	resolved, err := avro.Resolve(codec, codec)
	if err != nil {
		t.Fatal(err)
	}
	if got := mustDecode(t, resolved, mustEncode(t, codec, value)); !same(value, got) {
		t.Fatalf("resolved: %v", got)
	}
}

func TestFrames(t *testing.T) {
	framed := append(avro.AppendFrame(nil, 0x01020304), "payload"...)
	if !bytes.Equal(framed[:5], []byte{0, 1, 2, 3, 4}) {
		t.Fatalf("%x", framed)
	}
	id, payload, err := avro.SplitFrame(framed)
	if err != nil || id != 0x01020304 || string(payload) != "payload" {
		t.Fatalf("%d, %q, %v", id, payload, err)
	}
	if id, payload, err := avro.SplitFrame([]byte{0, 0, 0, 0, 7}); err != nil || id != 7 || len(payload) != 0 {
		t.Fatalf("an empty payload: %d, %v, %v", id, payload, err)
	}
	for _, bad := range [][]byte{nil, {}, {0, 0, 0, 0}, {1, 0, 0, 0, 1}, {0, 0xff, 0xff, 0xff, 0xff}, []byte(`{"a":1}`)} {
		if _, _, err := avro.SplitFrame(bad); !errors.Is(err, avro.ErrFrame) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

func FuzzSplitFrame(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{0, 0, 0, 0, 1, 2})
	f.Add([]byte{0, 0x80, 0, 0, 1, 2})
	f.Fuzz(func(t *testing.T, value []byte) {
		id, payload, err := avro.SplitFrame(value)
		if err != nil {
			return
		}
		if again := append(avro.AppendFrame(nil, id), payload...); !bytes.Equal(again, value) {
			t.Fatalf("%x became %x", value, again)
		}
	})
}

const fuzzSchema = `{"type":"record","name":"R","fields":[
	{"name":"a","type":{"type":"array","items":["null","long","string",{"type":"map","values":"boolean"}]}},
	{"name":"d","type":` + tDecimal + `},
	{"name":"x","type":` + tFixedDec + `},
	{"name":"at","type":["null",` + tMicros + `]},
	{"name":"day","type":` + tDate + `},
	{"name":"f","type":"float"},
	{"name":"u","type":` + tFixedUUID + `},
	{"name":"e","type":` + tEnum + `},
	{"name":"self","type":["null","R"]}]}`

func FuzzDecode(f *testing.F) {
	codec, err := avro.New(fuzzSchema)
	if err != nil {
		f.Fatal(err)
	}
	seed := map[string]any{
		"a": []any{nil, 7, "x", map[string]any{"k": true}}, "d": "1.25", "x": 1, "at": at("2024-05-01T10:00:00Z"), "day": "2024-05-01", "f": 0.5,
		"u": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "e": "A",
	}
	f.Add([]byte(nil))
	f.Add(mustEncode(f, codec, seed))
	seed["self"] = map[string]any{"a": []any{}, "d": 0, "x": -1, "at": nil, "day": -1, "f": -1, "u": make([]byte, 16), "e": "B"}
	f.Add(mustEncode(f, codec, seed))
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, payload []byte) {
		value, err := codec.Decode(payload)
		if err != nil {
			return
		}
		// What can be read can be written; only nesting is read deeper than it is written.
		binary, err := codec.AppendEncode(nil, value)
		if err != nil {
			var fe *avro.FieldError
			if !errors.As(err, &fe) || !strings.Contains(fe.Reason, "deeper") {
				t.Fatalf("%v: %v", value, err)
			}
			return
		}
		if again := mustDecode(t, codec, binary); !same(value, again) {
			t.Fatalf("%v\n%v", value, again)
		}
	})
}

func FuzzAppendEncodeJSON(f *testing.F) {
	codec, err := avro.New(fuzzSchema)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		``, `{}`, `null`, `{"a":[null,7,"x",{"k":true},{"long":1}],"d":1.25,"x":"-1","at":"2024-05-01T10:00:00Z","day":1,"f":"NaN","u":"6ba7b810-9dad-11d1-80b4-00c04fd430c8","e":"A"}`,
		`{"d":1e999999999}`, `{"a":[1e400]}`, `{"self":{"self":{}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		binary, err := codec.AppendEncodeJSON(nil, body)
		var fe *avro.FieldError
		if err != nil {
			if !errors.As(err, &fe) || len(err.Error()) > 2000 {
				t.Fatalf("%.300v", err)
			}
			return
		}
		value := mustDecode(t, codec, binary)
		if again := mustEncode(t, codec, value); !bytes.Equal(again, binary) {
			t.Fatalf("%v\n%x\n%x", value, binary, again)
		}
	})
}
