package projection_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/consumers/projection"
)

// drawType draws a column type, lists of lists included.
func drawType(t *rapid.T, depth int) projection.Type {
	kinds := []projection.Kind{projection.Bool, projection.Int, projection.Float, projection.Text, projection.Bytes, projection.Date,
		projection.Timestamp, projection.Duration, projection.Decimal, projection.JSON}
	if depth < 3 {
		kinds = append(kinds, projection.List)
	}
	ty := projection.Type{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
	switch ty.Kind {
	case projection.Decimal:
		ty.Precision = rapid.IntRange(1, projection.MaxPrecision).Draw(t, "precision")
		ty.Scale = rapid.IntRange(0, ty.Precision).Draw(t, "scale")
	case projection.List:
		elem := drawType(t, depth+1)
		ty.Elem = &elem
	}
	return ty
}

func drawValue(t *rapid.T, ty projection.Type) any {
	if rapid.IntRange(0, 5).Draw(t, "null") == 0 {
		return nil
	}
	switch ty.Kind {
	case projection.Bool:
		return rapid.Bool().Draw(t, "bool")
	case projection.Int:
		return rapid.Int64().Draw(t, "int")
	case projection.Float:
		return rapid.Float64().Draw(t, "float")
	case projection.Text:
		return rapid.String().Draw(t, "text")
	case projection.Bytes:
		return rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
	case projection.Date:
		return time.Unix(rapid.Int64Range(-719162, 2932896).Draw(t, "day")*86400, 0).UTC()
	case projection.Timestamp:
		return time.UnixMicro(rapid.Int64Range(-62135596800000000, 253402300799999999).Draw(t, "micros")).UTC()
	case projection.Duration:
		return time.Duration(rapid.Int64Range(math.MinInt64/1000, math.MaxInt64/1000).Draw(t, "micros")) * time.Microsecond
	case projection.Decimal:
		limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(ty.Precision)), nil)
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "digits"))
		n.Mod(n, limit)
		if rapid.Bool().Draw(t, "negative") {
			n.Neg(n)
		}
		return new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(ty.Scale)), nil))
	case projection.List:
		out := make([]any, rapid.IntRange(0, 4).Draw(t, "length"))
		for i := range out {
			out[i] = drawValue(t, *ty.Elem)
		}
		return out
	}
	return drawJSON(t, 0)
}

func drawJSON(t *rapid.T, depth int) any {
	n := rapid.IntRange(0, 10).Draw(t, "json")
	if depth > 3 && n > 8 {
		n = 1
	}
	switch n {
	case 0:
		return nil
	case 9:
		out := make([]any, rapid.IntRange(0, 3).Draw(t, "length"))
		for i := range out {
			out[i] = drawJSON(t, depth+1)
		}
		return out
	case 10:
		out := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "entries") {
			out[rapid.String().Draw(t, "name")] = drawJSON(t, depth+1)
		}
		return out
	}
	kinds := []projection.Kind{projection.Bool, projection.Int, projection.Float, projection.Text, projection.Bytes, projection.Timestamp, projection.Duration, projection.Decimal}
	return drawValue(t, projection.Type{Kind: kinds[n-1], Precision: 20, Scale: 7})
}

func drawState(t *rapid.T) ([]projection.Column, []any) {
	cols := make([]projection.Column, rapid.IntRange(0, 6).Draw(t, "columns"))
	values := make([]any, len(cols))
	for i := range cols {
		cols[i] = projection.Column{Name: fmt.Sprint("c", i), Type: drawType(t, 0)}
		values[i] = drawValue(t, cols[i].Type)
	}
	return cols, values
}

func TestStatesSurviveEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cols, values := drawState(t)
		b, err := projection.EncodeState(cols, values)
		if err != nil {
			t.Fatal(err)
		}
		got, err := projection.DecodeState(cols, b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, values) {
			t.Fatalf("got %v, want %v", got, values)
		}
		if again, err := projection.EncodeState(cols, got); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("equal values give other bytes: %v", err)
		}
		for i, c := range cols { // what was stored is what a column takes
			if _, err := projection.Coerce(c.Type, values[i]); err != nil {
				t.Fatalf("column %s does not take its own value: %v", c.Type, err)
			}
		}
		if _, err := json.Marshal(projection.Document(cols, values)); err != nil {
			t.Fatalf("the document is no JSON: %v", err)
		}
	})
}

func TestEncodeRefusesWhatIsNotOfTheKind(t *testing.T) {
	list := projection.Type{Kind: projection.List, Elem: &projection.Type{Kind: projection.Int}}
	deep := any("x")
	for range 100 {
		deep = []any{deep}
	}
	cases := []struct {
		ty projection.Type
		v  any
	}{
		{projection.Type{Kind: projection.Int}, 1},
		{projection.Type{Kind: projection.Text}, []byte("x")},
		{projection.Type{Kind: projection.Decimal, Precision: 3, Scale: 1}, big.NewRat(1, 3)},
		{projection.Type{Kind: projection.Decimal, Precision: 3, Scale: 1}, big.NewRat(1000, 1)},
		{list, []any{"x"}},
		{projection.Type{Kind: projection.JSON}, struct{}{}},
		{projection.Type{Kind: projection.JSON}, deep},
		{projection.Type{}, "x"},
	}
	for _, c := range cases {
		if _, err := projection.EncodeState([]projection.Column{{Name: "c", Type: c.ty}}, []any{c.v}); err == nil {
			t.Errorf("%T was encoded as %s", c.v, c.ty)
		}
	}
	if _, err := projection.EncodeState(nil, []any{1}); err == nil {
		t.Error("a value without a column was encoded")
	}
}

// everyKind has a column of each kind.
func everyKind() []projection.Column {
	var cols []projection.Column
	for k := projection.Bool; k <= projection.JSON; k++ {
		cols = append(cols, projection.Column{Name: k.String(), Type: projection.Type{Kind: k, Precision: 20, Scale: 4, Elem: &projection.Type{Kind: projection.JSON}}})
	}
	return cols
}

func everyValue() []any {
	return []any{true, int64(-5), 1.5, "größe", []byte{0, 255}, time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC),
		time.Date(2024, 2, 29, 1, 2, 3, 4000, time.UTC), -90 * time.Minute, big.NewRat(-25, 2), []any{int64(1), nil, []any{}},
		map[string]any{"n": nil, "t": time.Date(2024, 2, 29, 1, 2, 3, 4, time.UTC), "d": time.Second, "r": big.NewRat(1, 3), "b": []byte("x"), "f": math.Inf(1)}}
}

func TestDocumentsAreExactJSON(t *testing.T) {
	b, err := json.MarshalIndent(projection.Document(everyKind(), everyValue()), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/document.json", string(b)+"\n")
}

func FuzzDecodeState(f *testing.F) {
	cols := everyKind()
	b, err := projection.EncodeState(cols, everyValue())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{1, 11, 1, 1, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := projection.DecodeState(cols, b)
		if err != nil {
			return
		}
		again, err := projection.EncodeState(cols, values)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if back, err := projection.DecodeState(cols, again); err != nil || len(back) != len(values) {
			t.Fatalf("the second reading fails: %v", err)
		}
	})
}

// AppendJSON says what encoding/json says of the document, without its reflection.
func TestAppendJSONIsTheDocument(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawJSON(t, 0)
		got := projection.AppendJSON(nil, v)
		want := projection.DocumentValue(projection.Type{Kind: projection.JSON}, v)
		var have, expect any
		if err := json.Unmarshal(got, &have); err != nil {
			t.Fatalf("%q is no JSON: %v", got, err)
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &expect); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(have, expect) {
			t.Fatalf("got %s, want %s", got, text)
		}
	})
}
