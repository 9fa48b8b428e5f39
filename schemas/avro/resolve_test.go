package avro_test

import (
	"errors"
	"math/big"
	"testing"

	"github.com/millrace/millrace/schemas/avro"
)

// TestResolve: what a writer wrote, read with another schema. A nil want means that the two do not fit.
func TestResolve(t *testing.T) {
	type m = map[string]any
	rec := func(fields string) string { return `{"type":"record","name":"R","fields":[` + fields + `]}` }
	for name, tc := range map[string]struct {
		writer, reader string
		value, want    m
	}{
		"a field with a default is new":    {rec(`{"name":"a","type":"int"}`), rec(`{"name":"a","type":"int"},{"name":"b","type":"string","default":"x"}`), m{"a": 1}, m{"a": int64(1), "b": "x"}},
		"a nullable field is new":          {rec(`{"name":"a","type":"int"}`), rec(`{"name":"b","type":["null","int"],"default":null},{"name":"a","type":"int"}`), m{"a": 1}, m{"a": int64(1), "b": nil}},
		"a field without a default is new": {rec(`{"name":"a","type":"int"}`), rec(`{"name":"a","type":"int"},{"name":"b","type":"string"}`), m{"a": 1}, nil},
		"a field is gone":                  {rec(`{"name":"a","type":"int"},{"name":"b","type":"string"}`), rec(`{"name":"a","type":"int"}`), m{"a": 1, "b": "x"}, m{"a": int64(1)}},
		"another order":                    {rec(`{"name":"a","type":"int"},{"name":"b","type":"string"}`), rec(`{"name":"b","type":"string"},{"name":"a","type":"int"}`), m{"a": 1, "b": "x"}, m{"a": int64(1), "b": "x"}},
		"a field has another name":         {rec(`{"name":"a","type":"int"}`), rec(`{"name":"b","aliases":["a"],"type":"int"}`), m{"a": 1}, m{"b": int64(1)}},
		"int to long":                      {rec(`{"name":"a","type":"int"}`), rec(`{"name":"a","type":"long"}`), m{"a": 1}, m{"a": int64(1)}},
		"int to double":                    {rec(`{"name":"a","type":"int"}`), rec(`{"name":"a","type":"double"}`), m{"a": 1}, m{"a": 1.0}},
		"long to float":                    {rec(`{"name":"a","type":"long"}`), rec(`{"name":"a","type":"float"}`), m{"a": 1}, m{"a": 1.0}},
		"float to double":                  {rec(`{"name":"a","type":"float"}`), rec(`{"name":"a","type":"double"}`), m{"a": 0.5}, m{"a": 0.5}},
		"long to int":                      {rec(`{"name":"a","type":"long"}`), rec(`{"name":"a","type":"int"}`), m{"a": 1}, nil},
		"int to string":                    {rec(`{"name":"a","type":"int"}`), rec(`{"name":"a","type":"string"}`), m{"a": 1}, nil},
		"string to bytes":                  {rec(`{"name":"a","type":"string"}`), rec(`{"name":"a","type":"bytes"}`), m{"a": "x"}, m{"a": []byte("x")}},
		"bytes to string":                  {rec(`{"name":"a","type":"bytes"}`), rec(`{"name":"a","type":"string"}`), m{"a": []byte("x")}, m{"a": "x"}},
		"becomes nullable":                 {rec(`{"name":"a","type":"int"}`), rec(`{"name":"a","type":["null","int"]}`), m{"a": 1}, m{"a": int64(1)}},
		"becomes nullable and long":        {rec(`{"name":"a","type":"int"}`), rec(`{"name":"a","type":["null","long"]}`), m{"a": 1}, m{"a": int64(1)}},
		"is no longer nullable":            {rec(`{"name":"a","type":["null","int"]}`), rec(`{"name":"a","type":"int"}`), m{"a": 1}, nil},
		"a wider union":                    {rec(`{"name":"a","type":["null","int"]}`), rec(`{"name":"a","type":["null","string","int"]}`), m{"a": 1}, m{"a": int64(1)}},
		"an enum grows":                    {rec(`{"name":"a","type":{"type":"enum","name":"E","symbols":["A"]}}`), rec(`{"name":"a","type":{"type":"enum","name":"E","symbols":["B","A"]}}`), m{"a": "A"}, m{"a": "A"}},
		"an unknown symbol has a default":  {rec(`{"name":"a","type":{"type":"enum","name":"E","symbols":["A","B"]}}`), rec(`{"name":"a","type":{"type":"enum","name":"E","symbols":["A","U"],"default":"U"}}`), m{"a": "B"}, m{"a": "U"}},
		"items are widened":                {rec(`{"name":"a","type":{"type":"array","items":"int"}}`), rec(`{"name":"a","type":{"type":"array","items":"long"}}`), m{"a": []int{1}}, m{"a": []any{int64(1)}}},
		"a field inside is new":            {rec(`{"name":"a","type":{"type":"record","name":"I","fields":[]}}`), rec(`{"name":"a","type":{"type":"record","name":"I","fields":[{"name":"f","type":"float","default":0.5}]}}`), m{"a": m{}}, m{"a": m{"f": 0.5}}},
		"a type has another name":          {rec(`{"name":"a","type":{"type":"fixed","name":"F","size":2}}`), rec(`{"name":"a","type":{"type":"fixed","name":"G","aliases":["F"],"size":2}}`), m{"a": []byte("ab")}, m{"a": []byte("ab")}},
		"a fixed has another size":         {rec(`{"name":"a","type":{"type":"fixed","name":"F","size":2}}`), rec(`{"name":"a","type":{"type":"fixed","name":"F","size":3}}`), m{"a": []byte("ab")}, nil},
		"a decimal has another scale":      {rec(`{"name":"a","type":` + tDecimal + `}`), rec(`{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":6,"scale":3}}`), m{"a": 1}, nil},
		"a decimal stays":                  {rec(`{"name":"a","type":` + tDecimal + `}`), rec(`{"name":"a","type":` + tDecimal + `},{"name":"b","type":` + tDecimal + `,"default":"\u0001"}`), m{"a": "1.5"}, m{"a": big.NewRat(3, 2), "b": big.NewRat(1, 100)}},
	} {
		t.Run(name, func(t *testing.T) {
			writer, reader := newCodec(t, tc.writer), newCodec(t, tc.reader)
			resolved, err := avro.Resolve(writer, reader)
			if tc.want == nil {
				var ce *avro.CompatibilityError
				if !errors.As(err, &ce) || ce.Path == "" || ce.Reason == "" {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := mustDecode(t, resolved, mustEncode(t, writer, tc.value)); !same(tc.want, got) {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
			if resolved.Schema() != reader.Schema() || len(resolved.Fields()) != len(reader.Fields()) {
				t.Error("a resolved codec has the reader's layout")
			}
			// It writes as the reader does.
			if again := mustDecode(t, reader, mustEncode(t, resolved, tc.want)); !same(tc.want, again) {
				t.Errorf("written again: %v", again)
			}
		})
	}
}

func TestResolvedCodecsWithstandHostilePayloads(t *testing.T) {
	writer := newCodec(t, array(`{"type":"record","name":"E","fields":[]}`))
	reader := newCodec(t, array(`{"type":"record","name":"E","fields":[{"name":"s","type":"string","default":"x"}]}`))
	resolved, err := avro.Resolve(writer, reader)
	if err != nil {
		t.Fatal(err)
	}
	var de *avro.DecodeError
	for _, payload := range [][]byte{join(varint(1<<60), varint(0)), join(varint(1), varint(0), []byte{1}), nil} {
		if _, err := resolved.Decode(payload); !errors.As(err, &de) {
			t.Errorf("%x: %v", payload, err)
		}
	}
}
