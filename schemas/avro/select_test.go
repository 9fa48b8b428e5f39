package avro_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/schemas/avro"
)

// agrees holds a selection to Decode: the same values, or the same error.
func agrees(t fataler, codec *avro.Codec, sel *avro.Selection, payload []byte) {
	t.Helper()
	want, wantErr := codec.Decode(payload)
	before := []any{"before"}
	got, err := sel.Append(before, payload)
	if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
		t.Fatalf("%s\n%x\nselected %v: %v\n  decoded: %v", codec.Schema().Text, payload, sel.Names(), err, wantErr)
	}
	if err != nil {
		if len(got) != 1 {
			t.Fatalf("%d values stand behind an error", len(got)-1)
		}
		return
	}
	if len(got) != 1+len(sel.Names()) || got[0] != "before" {
		t.Fatalf("%v after %v for %v", got, before, sel.Names())
	}
	for i, name := range sel.Names() {
		if !same(want[name], got[1+i]) {
			t.Fatalf("%s\n%x\nfield %s\nselected %#v\n decoded %#v", codec.Schema().Text, payload, name, got[1+i], want[name])
		}
	}
	if all := codec.SelectAll(); sel == all && len(all.Map(got[1:])) != len(want) {
		t.Fatalf("%v is not %v", all.Map(got[1:]), want)
	}
}

// someFields selects fields at random.
func someFields(t *rapid.T, codec *avro.Codec) *avro.Selection {
	if rapid.Bool().Draw(t, "all fields") {
		return codec.SelectAll()
	}
	var names []string
	for _, f := range codec.Fields() {
		if rapid.Bool().Draw(t, "selected") {
			names = append(names, f.Name)
		}
	}
	return codec.Select(append(names, "there is no such field")...)
}

// spoil changes a payload a little.
func spoil(t *rapid.T, payload []byte) []byte {
	b := append([]byte{}, payload...)
	for range rapid.IntRange(1, 3).Draw(t, "changes") {
		if len(b) == 0 {
			break
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		switch rapid.IntRange(0, 3).Draw(t, "how") {
		case 0:
			b[i] = rapid.Byte().Draw(t, "byte")
		case 1:
			b = append(b[:i], b[i+1:]...)
		case 2:
			b = append(b[:i], append([]byte{rapid.Byte().Draw(t, "byte")}, b[i:]...)...)
		case 3:
			b = b[:i]
		}
	}
	return b
}

func TestSelectionsReadAsDecodeDoes(t *testing.T) {
	planned := 0
	rapid.Check(t, func(t *rapid.T) {
		root := (&kinds{}).record(t, 3)
		codec := compileRandom(t, root.schema)
		sel := someFields(t, codec)
		if sel.Planned() {
			planned++
		}
		for range 4 {
			payload := mustEncode(t, codec, root.value(t))
			agrees(t, codec, sel, payload)
			agrees(t, codec, sel, spoil(t, payload))
		}
	})
	if planned == 0 {
		t.Error("no selection had a plan")
	}
}

// TestResolvedSelectionsReadAsDecodeDoes changes a writer's schema at random into a reader's.
func TestResolvedSelectionsReadAsDecodeDoes(t *testing.T) {
	planned := 0
	rapid.Check(t, func(t *rapid.T) {
		k := &kinds{}
		root := k.record(t, 2)
		text, err := json.Marshal(root.schema)
		if err != nil {
			t.Fatal(err)
		}
		var written map[string]any
		if err := json.Unmarshal(text, &written); err != nil {
			t.Fatal(err)
		}
		writer := compileRandom(t, root.schema)
		reader := compileRandom(t, map[string]any{"type": "record", "name": written["name"], "fields": evolve(t, k, written["fields"].([]any))})
		codec, err := avro.Resolve(writer, reader)
		if err != nil {
			return // not every change can be read
		}
		sel := someFields(t, codec)
		if sel.Planned() {
			planned++
		}
		for range 4 {
			payload := mustEncode(t, writer, root.value(t))
			agrees(t, codec, sel, payload)
			agrees(t, codec, sel, spoil(t, payload))
		}
	})
	if planned == 0 {
		t.Error("no resolved selection had a plan")
	}
}

// wider are the types that a type may become.
var wider = map[string][]any{
	"int": {"long", "float", "double"}, "long": {"float", "double"}, "float": {"double"}, "string": {"bytes"}, "bytes": {"string"},
}

// evolve drops, moves, widens and adds fields.
func evolve(t *rapid.T, k *kinds, fields []any) []any {
	out := []any{}
	for _, f := range fields {
		f := f.(map[string]any)
		switch rapid.IntRange(0, 9).Draw(t, "change") {
		case 0:
			continue
		case 1:
			if _, union := f["type"].([]any); !union {
				f = map[string]any{"name": f["name"], "type": []any{"null", f["type"]}}
			}
		case 2, 3:
			if name, plain := f["type"].(string); plain && len(wider[name]) > 0 {
				f = map[string]any{"name": f["name"], "type": rapid.SampledFrom(wider[name]).Draw(t, "wider")}
			}
		case 4:
			f = map[string]any{"name": f["name"].(string) + "_new", "aliases": []any{f["name"]}, "type": f["type"]}
			if f["type"] == "string" {
				f["default"] = "which is not what was written"
			}
		}
		out = append(out, f)
	}
	for range rapid.IntRange(0, 2).Draw(t, "added") {
		added := rapid.SampledFrom(defaultFields(k)).Draw(t, "added field")
		added["name"] = "added" + strconv.Itoa(len(out))
		out = append(out, added)
	}
	if len(out) == 0 {
		return out
	}
	return rapid.Permutation(out).Draw(t, "order")
}

// defaultFields are fields that only the reader may have, without their names.
func defaultFields(k *kinds) []map[string]any {
	return []map[string]any{
		{"type": "string", "default": "größe"}, {"type": []any{"null", "int"}, "default": nil}, {"type": "double", "default": 1.5},
		{"type": map[string]any{"type": "array", "items": "string"}, "default": []any{"a", "b"}},
		{"type": map[string]any{"type": "map", "values": "long"}, "default": map[string]any{"a": 1}},
		{"type": map[string]any{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, "default": "\u0001\u0002"},
		{"type": map[string]any{"type": "record", "name": k.name(), "fields": []any{map[string]any{"name": "x", "type": "int", "default": 7}}}, "default": map[string]any{}},
	}
}

// looseSchema has unions of what bare values cannot tell apart: in them Decode looks at values less closely.
const looseSchema = `{"type":"record","name":"L","fields":[{"name":"u","type":["null",
	{"type":"bytes","logicalType":"decimal","precision":2,"scale":1},{"type":"string","logicalType":"uuid"},{"type":"int","logicalType":"time-millis"},
	{"type":"map","values":{"type":"bytes","logicalType":"decimal","precision":2,"scale":1}},
	{"type":"array","items":["null",{"type":"string","logicalType":"uuid"}]},
	{"type":"record","name":"R","fields":[{"name":"f","type":{"type":"fixed","name":"F16","size":16,"logicalType":"uuid"}},{"name":"d","type":["null",{"type":"fixed","name":"D3","size":3,"logicalType":"decimal","precision":3,"scale":1}]}]},
	{"type":"enum","name":"E","symbols":["A","B"]},{"type":"fixed","name":"F2","size":2},"float","double","boolean","long"]},
	{"name":"n","type":["null",{"type":"long","logicalType":"timestamp-nanos"}]},{"name":"m","type":{"type":"map","values":"string"}},
	{"name":"b","type":"boolean"},{"name":"c","type":{"type":"long","logicalType":"time-micros"}}]}`

func TestSelectionsReadUnionsAsDecodeDoes(t *testing.T) {
	codec := newCodec(t, looseSchema)
	if !codec.SelectAll().Planned() {
		t.Fatal("there is no plan")
	}
	rest := []byte{0, 0, 1, 2}
	for branch, value := range [][]byte{
		{}, {4, 0x7f, 0xff}, {2, 'x'}, {20}, {2, 2, 'k', 4, 0x7f, 0xff, 0}, {4, 0, 2, 2, 'y', 0}, append(make([]byte, 16), 2, 0x7f, 0xff, 0xff),
		{2}, {1, 2}, {0, 0, 0x80, 0x3f}, make([]byte, 8), {1}, {5},
	} {
		payload := join(varint(int64(branch)), value, rest)
		if _, err := codec.Decode(payload); err != nil {
			t.Errorf("branch %d: %v", branch, err)
		}
		agrees(t, codec, codec.SelectAll(), payload)
		agrees(t, codec, codec.Select("m"), payload)
	}
	small := rapid.OneOf(rapid.ByteRange(0, 6), rapid.ByteRange(0, 1), rapid.Byte())
	rapid.Check(t, func(t *rapid.T) {
		payload := join(rapid.SliceOfN(small, 0, 24).Draw(t, "payload"), rest)
		agrees(t, codec, codec.SelectAll(), payload)
		agrees(t, codec, codec.Select("m"), payload)
	})
}

// An alias is not a field that came new.
func TestSelectionsReadAliasesAsDecodeDoes(t *testing.T) {
	writer := newCodec(t, `{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}`)
	reader := newCodec(t, `{"type":"record","name":"R","fields":[{"name":"b","aliases":["a"],"type":"string","default":"which was not written"}]}`)
	codec, err := avro.Resolve(writer, reader)
	if err != nil {
		t.Fatal(err)
	}
	agrees(t, codec, codec.SelectAll(), []byte{2, 'x'})
}

// TestWhatSelectionsLeaveToDecode: no plan for types without an end, and none for items that take no bytes.
func TestWhatSelectionsLeaveToDecode(t *testing.T) {
	deep := `"int"`
	for range 40 {
		deep = `{"type":"array","items":` + deep + `}`
	}
	for name, typ := range map[string]string{
		"recursive":         `["null","R"]`,
		"items of no bytes": `{"type":"array","items":"null"}`,
		"records of none":   `{"type":"array","items":{"type":"record","name":"E","fields":[]}}`,
		"deep":              deep,
	} {
		codec := newCodec(t, `{"type":"record","name":"R","fields":[{"name":"a","type":"string"},{"name":"x","type":`+typ+`}]}`)
		sel := codec.Select("a")
		if sel.Planned() {
			t.Errorf("%s: there is a plan", name)
		}
		for _, payload := range [][]byte{{2, 'x', 0}, {2, 'x', 4, 0}, {2, 'x', 0xff, 0xff, 0xff, 0xff, 0x7f, 0}, nil} {
			agrees(t, codec, sel, payload)
		}
	}
}

func TestSelectionsCheckWhatTheyDoNotMake(t *testing.T) {
	codec := newCodec(t, `{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"s","type":"string"},
		{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":2,"scale":0}},{"name":"l","type":{"type":"array","items":"int"}}]}`)
	sel := codec.Select("a")
	for name, payload := range map[string][]byte{
		"not UTF-8":           {2, 2, 0xff, 2, 1, 0},
		"too many digits":     {2, 2, 'x', 2, 100, 0},
		"not so many items":   {2, 2, 'x', 2, 1, 40, 2, 0},
		"bytes follow":        {2, 2, 'x', 2, 1, 0, 0},
		"it ends too early":   {2, 2, 'x', 2, 1},
		"a number too long":   {0x80, 0x80, 0x80, 0x80, 0x80, 0, 2, 'x', 2, 1, 0},
		"a negative length":   {2, 1, 'x', 2, 1, 0},
		"a block with a size": {2, 2, 'x', 2, 1, 1, 2, 2, 0}, // which is no fault
	} {
		agrees(t, codec, sel, payload)
		var de *avro.DecodeError
		if _, err := sel.Append(nil, payload); name != "a block with a size" && !errors.As(err, &de) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSlots(t *testing.T) {
	codec := newCodec(t, `{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":"int"},{"name":"c","type":"int"}]}`)
	sel := codec.Select("c", "a", "none")
	if sel.Slot(0) != 0 || sel.Slot(1) != -1 || sel.Slot(2) != 1 {
		t.Errorf("slots %d %d %d", sel.Slot(0), sel.Slot(1), sel.Slot(2))
	}
	for name, want := range map[string]struct {
		slot int
		has  bool
	}{"a": {0, true}, "b": {-1, true}, "c": {1, true}, "none": {-1, false}} {
		if slot, has := sel.Find(name); slot != want.slot || has != want.has {
			t.Errorf("%s: %d, %t", name, slot, has)
		}
	}
	values, err := sel.Append(nil, []byte{2, 4, 6})
	if err != nil || values[0] != int64(1) || values[1] != int64(3) {
		t.Errorf("%v, %v", values, err)
	}
}

func TestSmallDecimalsAreReduced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scale := rapid.IntRange(0, 18).Draw(t, "scale")
		n := rapid.Int64().Draw(t, "unscaled")
		codec := compileRandom(t, map[string]any{"type": "record", "name": "R", "fields": []any{map[string]any{"name": "d",
			"type": map[string]any{"type": "bytes", "logicalType": "decimal", "precision": 19, "scale": scale}}}})
		want := new(big.Rat).SetFrac(big.NewInt(n), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil))
		values, err := codec.SelectAll().Append(nil, mustEncode(t, codec, map[string]any{"d": want}))
		if err != nil {
			t.Fatal(err)
		}
		got := values[0].(*big.Rat)
		if got.Cmp(want) != 0 || got.Num().Cmp(want.Num()) != 0 || got.Denom().Cmp(want.Denom()) != 0 {
			t.Fatalf("%d / 10^%d is %s, want %s", n, scale, got, want)
		}
		if sum := new(big.Rat).Add(got, got); sum.Cmp(new(big.Rat).Add(want, want)) != 0 {
			t.Fatalf("twice %s is %s", got, sum)
		}
	})
}

func FuzzSelection(f *testing.F) {
	var codecs []*avro.Codec
	for _, text := range []string{fuzzSchema, looseSchema, orderSchema} {
		codec, err := avro.New(text)
		if err != nil {
			f.Fatal(err)
		}
		codecs = append(codecs, codec)
	}
	f.Add(uint8(0), []byte{})
	f.Add(uint8(1), []byte{0, 0, 0, 1, 2})
	f.Add(uint8(1), []byte{8, 2, 2, 'k', 2, 99, 0, 0, 0, 1, 2})
	f.Add(uint8(2), orderPayload(f, codecs[2]))
	f.Fuzz(func(t *testing.T, which uint8, payload []byte) {
		codec := codecs[int(which)%len(codecs)]
		agrees(t, codec, codec.SelectAll(), payload)
		agrees(t, codec, codec.Select(codec.Fields()[0].Name), payload)
	})
}

// orderSchema is an event as applications have them: 12 fields.
const orderSchema = `{"type":"record","name":"OrderPlaced","namespace":"bench","fields":[
	{"name":"order_id","type":"string"},{"name":"customer_id","type":"string"},{"name":"status","type":{"type":"enum","name":"Status","symbols":["placed","paid","shipped"]}},
	{"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},{"name":"currency","type":"string"},{"name":"quantity","type":"int"},
	{"name":"placed_at","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"city","type":"string"},{"name":"zip","type":["null","string"]},
	{"name":"weight","type":"double"},{"name":"due","type":["null",{"type":"int","logicalType":"date"}]},{"name":"note","type":["null","string"]}]}`

func orderPayload(t fataler, codec *avro.Codec) []byte {
	return mustEncode(t, codec, map[string]any{"order_id": "o-4711-000123", "customer_id": "c-000815", "status": "paid", "total": "129.90", "currency": "EUR",
		"quantity": 3, "placed_at": "2026-05-01T10:20:30.123456Z", "city": "Ulm", "zip": "89073", "weight": 1.25, "due": "2026-05-04", "note": "please ring twice"})
}

func BenchmarkDecode(b *testing.B) {
	codec := newCodec(b, orderSchema)
	payload := orderPayload(b, codec)
	b.Run("map", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := codec.Decode(payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, sel := range map[string]*avro.Selection{"all": codec.SelectAll(), "three": codec.Select("order_id", "total", "placed_at"), "none": codec.Select()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var values []any
			var err error
			for b.Loop() {
				if values, err = sel.Append(values[:0], payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
