package stored

import (
	"math"
	"math/big"
	"reflect"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

var columns = []projection.Column{
	{Name: "name", Type: projection.Type{Kind: projection.Text}},
	{Name: "count", Type: projection.Type{Kind: projection.Int}},
	{Name: "price", Type: projection.Type{Kind: projection.Decimal, Precision: 12, Scale: 2}},
}

func samples() []fold.Stored {
	at := time.Date(2024, 2, 29, 23, 59, 59, 999_999_000, time.UTC)
	return []fold.Stored{
		{},
		{Version: 7, EventID: "6f1c", Time: at},
		{Version: math.MaxInt64, EventID: "e", Time: at, State: projection.State{Exists: true, Values: []any{"a\x00b", int64(-1), big.NewRat(1250, 100)}}},
		{Version: 1, Time: at, State: projection.State{Exists: true, Values: []any{nil, nil, nil}}},
	}
}

func TestDecodeReturnsWhatEncodeWrote(t *testing.T) {
	for _, want := range samples() {
		b, err := Encode(columns, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(columns, b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		for n := range b {
			if short, err := Decode(columns, b[:n]); err == nil && reflect.DeepEqual(short, want) {
				t.Errorf("%d of %d bytes decode to the whole state", n, len(b))
			}
		}
	}
}

func TestEncodeRefusesAForeignValue(t *testing.T) {
	s := fold.Stored{State: projection.State{Exists: true, Values: []any{1, 2, 3}}}
	if _, err := Encode(columns, s); err == nil {
		t.Fatal("an int is no column's value")
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples() {
		b, err := Encode(columns, s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(columns, b)
		if err != nil {
			return
		}
		if _, err := Encode(columns, s); err != nil {
			t.Fatalf("a decoded state does not encode: %v", err)
		}
	})
}
