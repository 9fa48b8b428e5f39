package avro_test

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/schemas/avro"
)

const structSchema = `{"type":"record","name":"shop.Order","fields":[
	{"name":"id","type":"string"},
	{"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
	{"name":"placed_at","type":{"type":"long","logicalType":"timestamp-micros"}},
	{"name":"note","type":["null","string"],"default":null},
	{"name":"priority","type":"int","default":5},
	{"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[{"name":"sku","type":"string"},{"name":"count","type":"int"}]}}}]}`

type base struct {
	ID       string    `avro:"id"`
	PlacedAt time.Time `avro:"placed_at"`
}

type line struct {
	SKU   string `avro:"sku"`
	Count int    `avro:"count"`
}

type order struct {
	base
	Total    *big.Rat `avro:"total"`
	Note     *string  `avro:"note"`
	Priority int      `avro:"priority,omitzero"`
	Lines    []line   `avro:"lines"`
	Internal string   `avro:"-"`
	private  int
}

func TestStructs(t *testing.T) {
	codec := newCodec(t, structSchema)
	o := order{base: base{ID: "o-1", PlacedAt: at("2024-05-01T10:00:00Z")}, Total: big.NewRat(5, 2), Lines: []line{{"a", 1}, {"b", 2}}, Internal: "x", private: 1}
	want := map[string]any{
		"id": "o-1", "total": big.NewRat(5, 2), "placed_at": at("2024-05-01T10:00:00Z"), "note": nil, "priority": int64(5),
		"lines": []any{map[string]any{"sku": "a", "count": int64(1)}, map[string]any{"sku": "b", "count": int64(2)}},
	}
	for _, v := range []any{o, &o} {
		if got := mustDecode(t, codec, mustEncode(t, codec, v)); !same(want, got) {
			t.Errorf("%T:\n got %v\nwant %v", v, got, want)
		}
	}
	word := "soon"
	o.Note, o.Priority = &word, 1
	if got := mustDecode(t, codec, mustEncode(t, codec, o)); got["note"] != "soon" || got["priority"] != int64(1) {
		t.Errorf("got %v", got)
	}
}

// What a struct holds and the schema does not is refused: ignored data is lost data.
func TestStructsThatDoNotMatchAreRefused(t *testing.T) {
	type extra struct {
		order
		Coupon string `avro:"coupon"`
	}
	type untagged struct {
		order
		Coupon string
	}
	type twice struct {
		order
		Again string `avro:"id"`
	}
	type missing struct {
		ID string `avro:"id"`
	}
	type wrongLine struct {
		base
		Total int              `avro:"total"`
		Lines []map[string]any `avro:"lines"`
	}
	type inlined struct {
		Base  base `avro:",inline"`
		Total int  `avro:"total"`
		Lines []struct {
			SKU string `avro:"sku"`
			N   int    `avro:"n"`
		} `avro:"lines"`
	}
	in := inlined{}
	in.Lines = append(in.Lines, struct {
		SKU string `avro:"sku"`
		N   int    `avro:"n"`
	}{})
	codec := newCodec(t, structSchema)
	for _, tc := range []struct {
		value         any
		field, reason string
	}{
		{extra{}, "coupon", "not of shop.Order"},
		{untagged{}, "Coupon", `avro:"-"`},
		{twice{}, "id", "two fields"},
		{missing{}, "total", "missing"},
		{order{}, "total", "null"},
		{wrongLine{Lines: []map[string]any{{"sku": "a", "count": 1, "x": 1}}}, "lines[0].x", "not a field of shop.Line"},
		{in, "lines[0].n", "not of shop.Line"},
		{7, "", "fields of shop.Order"},
		{nil, "", "null"},
		{(*order)(nil), "", "null"},
	} {
		var fe *avro.FieldError
		if _, err := codec.AppendEncode(nil, tc.value); !errors.As(err, &fe) || fe.Field != tc.field || !strings.Contains(fe.Reason, tc.reason) {
			t.Errorf("%T: got %v, want field %s: ...%s...", tc.value, err, tc.field, tc.reason)
		}
	}
}

func ExampleCodec_AppendEncode() {
	codec, err := avro.New(structSchema)
	if err != nil {
		fmt.Println(err)
		return
	}
	payload, err := codec.AppendEncode(nil, order{
		base:  base{ID: "o-1", PlacedAt: time.Date(2024, 5, 1, 10, 0, 0, 0, time.UTC)},
		Total: big.NewRat(1999, 100),
		Lines: []line{{"mill", 1}},
	})
	fmt.Println(len(payload), err)
	value, err := codec.Decode(payload)
	fmt.Println(value["id"], value["total"], value["priority"], err)

	_, err = codec.AppendEncode(nil, map[string]any{"id": "o-2", "total": "19.999", "placed_at": time.Now(), "lines": []line{}})
	fmt.Println(err)
	// Output:
	// 25 <nil>
	// o-1 1999/100 5 <nil>
	// shop.Order: field total: "19.999" has more decimals than the schema's scale: decimal(12,2)
}

func ExampleCodec_AppendEncodeJSON() {
	codec, err := avro.New(structSchema)
	if err != nil {
		fmt.Println(err)
		return
	}
	payload, err := codec.AppendEncodeJSON(nil, []byte(`{"id": "o-1", "total": 19.99, "placed_at": "2024-05-01T10:00:00Z", "lines": []}`))
	fmt.Println(len(payload), err)
	_, err = codec.AppendEncodeJSON(nil, []byte(`{"id": "o-1", "total": 19.99, "placed_at": "2024-05-01T10:00:00Z", "lines": [{"sku": "mill"}]}`))
	fmt.Println(err)
	// Output:
	// 18 <nil>
	// shop.Order: field lines[0].count: is missing, and has no default
}
