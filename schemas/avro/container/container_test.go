package container_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/avro/ocf"

	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/avro/container"
)

const everything = `{"type":"record","name":"shop.Everything","fields":[
	{"name":"id","type":"string"},
	{"name":"count","type":"int"},
	{"name":"big","type":"long"},
	{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":2}},
	{"name":"rate","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":5}},
	{"name":"zero","type":{"type":"fixed","name":"Zero","size":9,"logicalType":"decimal","precision":9,"scale":5}},
	{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
	{"name":"day","type":{"type":"int","logicalType":"date"}},
	{"name":"clock","type":{"type":"int","logicalType":"time-millis"}},
	{"name":"note","type":["null","string"],"default":null},
	{"name":"when","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
	{"name":"kind","type":{"type":"enum","name":"Kind","symbols":["A","B"]}},
	{"name":"hash","type":{"type":"fixed","name":"Hash","size":4}},
	{"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[{"name":"x","type":"double"},{"name":"y","type":["null","Kind"]}]}}},
	{"name":"tags","type":{"type":"map","values":"boolean"}}]}`

func value(i int) map[string]any {
	return map[string]any{
		"id": fmt.Sprintf("id-%d", i), "count": i, "big": int64(1)<<62 + int64(i), "price": big.NewRat(int64(-33*i), 100), "rate": "0.33333", "zero": i % 2,
		"at": time.UnixMicro(int64(-i) * 1_234_567), "day": "1969-12-30", "clock": 3 * time.Second, "note": nil, "when": time.UnixMilli(int64(i)),
		"kind": "B", "hash": []byte{1, 2, 3, byte(i)}, "lines": []any{map[string]any{"x": 1.5, "y": "A"}, map[string]any{"x": -2, "y": nil}},
		"tags": map[string]bool{"a": true, "b": false},
	}
}

func payload(t testing.TB, codec *avro.Codec, v any) []byte {
	t.Helper()
	b, err := codec.AppendEncode(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newCodec(t testing.TB, schema string) *avro.Codec {
	t.Helper()
	c, err := avro.New(schema)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestWhatAFileHoldsIsWhatWasAppended is promise 1, for every compression and more than one block.
func TestWhatAFileHoldsIsWhatWasAppended(t *testing.T) {
	const records = 2500
	codec := newCodec(t, everything)
	for _, compression := range []container.Compression{container.Null, container.Deflate, container.Snappy} {
		t.Run(string(compression), func(t *testing.T) {
			var file bytes.Buffer
			w, err := container.NewWriter(&file, everything, container.WithCompression(compression), container.WithMetadata("millrace.topic", []byte("t")))
			if err != nil {
				t.Fatal(err)
			}
			for i := range records {
				if i%2 == 0 {
					err = w.Append(payload(t, codec, value(i)))
				} else {
					err = w.AppendValue(value(i))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			readBack(t, codec, bytes.NewReader(file.Bytes()), records)
			readByAnother(t, bytes.NewReader(file.Bytes()), records)
		})
	}
}

func readBack(t *testing.T, codec *avro.Codec, in io.Reader, records int) {
	r, err := container.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	if r.Schema().Fingerprint != codec.Schema().Fingerprint || string(r.Metadata()["millrace.topic"]) != "t" {
		t.Fatalf("header %s, %v", r.Schema().Text, r.Metadata())
	}
	for i := range records {
		got, err := r.NextValue()
		if err != nil {
			t.Fatal(err)
		}
		want, err := codec.Decode(payload(t, codec, value(i)))
		if err != nil {
			t.Fatal(err)
		}
		// Encoding is the same for the same values: maps are written sorted.
		if !bytes.Equal(payload(t, codec, got), payload(t, codec, want)) {
			t.Fatalf("record %d: %v, want %v", i, got, want)
		}
	}
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last record: %v", err)
		}
	}
}

// readByAnother reads with a library that had no part in writing.
func readByAnother(t *testing.T, in io.Reader, records int) {
	r, err := ocf.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		var got map[string]any
		if err := r.Decode(&got); err != nil {
			t.Fatal(err)
		}
		hash, _ := got["hash"].([]byte)
		if len(hash) != 4 || got["id"] != fmt.Sprintf("id-%d", i) || got["price"].(*big.Rat).Cmp(big.NewRat(int64(-33*i), 100)) != 0 {
			t.Fatalf("record %d: %v", i, got)
		}
	}
	var more map[string]any
	if err := r.Decode(&more); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last record: %v", err)
	}
}

const money = `{"type":"record","name":"M","fields":[{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}}]}`

func TestDecimalsAreExactOrRefused(t *testing.T) {
	var file bytes.Buffer
	w, err := container.NewWriter(&file, money)
	if err != nil {
		t.Fatal(err)
	}
	// goavro alone would write 0.33 for 1/3.
	var fe *avro.FieldError
	if err := w.AppendValue(map[string]any{"a": big.NewRat(1, 3)}); !errors.As(err, &fe) || fe.Field != "a" {
		t.Fatalf("1/3: %v", err)
	}
	if err := w.AppendValue(map[string]any{"a": big.NewRat(33, 100)}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := container.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.NextValue()
	if err != nil || got["a"].(*big.Rat).Cmp(big.NewRat(33, 100)) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
}

// TestGoavroTruncatesDecimals keeps the reason for the guard: when this fails, the guard may go.
func TestGoavroTruncatesDecimals(t *testing.T) {
	codec, err := goavro.NewCodec(money)
	if err != nil {
		t.Fatal(err)
	}
	b, err := codec.BinaryFromNative(nil, map[string]any{"a": big.NewRat(1, 3)})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := codec.NativeFromBinary(b)
	if err != nil || got.(map[string]any)["a"].(*big.Rat).Cmp(big.NewRat(33, 100)) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
}

// TestHostilePayloadsNeverReachGoavro is promise 2.
func TestHostilePayloadsNeverReachGoavro(t *testing.T) {
	const nothing = `{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":{"type":"record","name":"E","fields":[]}}}]}`
	var file bytes.Buffer
	w, err := container.NewWriter(&file, nothing)
	if err != nil {
		t.Fatal(err)
	}
	for _, hostile := range [][]byte{
		{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0}, // a block that claims 2^62 empty records
		{},
		{0, 0},
	} {
		var de *avro.DecodeError
		if err := w.Append(hostile); !errors.As(err, &de) {
			t.Errorf("%x: %v", hostile, err)
		}
	}
	const tree = `{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node"]}]}`
	if _, err := container.NewWriter(&file, tree); !errors.Is(err, container.ErrRecursive) {
		t.Errorf("a schema that contains itself: %v", err)
	}
}

func TestAWriterThatFailedStaysFailed(t *testing.T) {
	w, err := container.NewWriter(&failing{left: 1000}, money)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; err == nil && i < 100_000; i++ {
		err = w.AppendValue(map[string]any{"a": i})
	}
	if !errors.Is(err, errFull) {
		t.Fatalf("got %v", err)
	}
	if err := w.AppendValue(map[string]any{"a": 1}); !errors.Is(err, errFull) {
		t.Errorf("append after the failure: %v", err)
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Errorf("close after the failure: %v", err)
	}
}

var errFull = errors.New("full")

type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestADamagedFileIsAnError(t *testing.T) {
	var file bytes.Buffer
	w, err := container.NewWriter(&file, money, container.WithCompression(container.Null))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := w.AppendValue(map[string]any{"a": i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	for _, damaged := range [][]byte{nil, []byte("Obj"), []byte(strings.Repeat("x", 100)), whole[:20], whole[:len(whole)-1], whole[:len(whole)-20]} {
		r, err := container.NewReader(bytes.NewReader(damaged))
		for err == nil {
			_, err = r.Next()
		}
		if errors.Is(err, io.EOF) && len(damaged) > 0 {
			t.Errorf("%d of %d bytes were read as whole", len(damaged), len(whole))
		}
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "container")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file, err := os.Create(filepath.Join(dir, "payments.avro"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer file.Close()

	w, err := container.NewWriter(file, money)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(w.AppendValue(map[string]any{"a": "12.50"}))
	fmt.Println(w.AppendValue(map[string]any{"a": "12.505"}))
	fmt.Println(w.Close())

	if _, err := file.Seek(0, io.SeekStart); err != nil {
		fmt.Println(err)
		return
	}
	r, err := container.NewReader(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := r.NextValue()
	fmt.Println(v["a"], err)
	// Output:
	// <nil>
	// M: field a: "12.505" has more decimals than the schema's scale: decimal(10,2)
	// <nil>
	// 25/2 <nil>
}
