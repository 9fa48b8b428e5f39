package warehouse

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// Whatever the headers of a record are: JSON and what it does not tell give them back.
func TestHeadersComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }), rapid.Just([]byte(nil)))
		name := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "b", "ce_id", `"`, "\\", "\xff", "a\x00"}), rapid.String())
		var headers []kgo.RecordHeader
		for range rapid.IntRange(0, 40).Draw(t, "headers") {
			headers = append(headers, kgo.RecordHeader{Key: name.Draw(t, "name"), Value: value.Draw(t, "value")})
		}
		ev := consumers.Event{}.WithRecordHeaders(headers)
		k := Kept{Headers: string(projection.AppendHeadersJSON(nil, &ev)), Exact: ExactHeaders(headers), Payload: []byte{1}, SchemaID: 7, Key: "k", Time: time.UnixMilli(1)}
		r, err := k.Record()
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Headers) != len(headers) {
			t.Fatalf("%d headers, want %d", len(r.Headers), len(headers))
		}
		for i, h := range headers {
			if g := r.Headers[i]; g.Key != h.Key || string(g.Value) != string(h.Value) || (g.Value == nil) != (h.Value == nil) {
				t.Fatalf("header %d is %q: %q, want %q: %q", i, g.Key, g.Value, h.Key, h.Value)
			}
		}
	})
}

func TestDamagedRowsOfBronzeAreTold(t *testing.T) {
	for _, k := range []Kept{
		{Headers: `{`}, {Headers: `[]`}, {Headers: `{"a"}`}, {Headers: `{"a":1}`}, {Headers: `{"a":"b",}`}, {Headers: `{"a":"b"x}`}, {Headers: `{"a":"\x"}`}, {Headers: `{"a":"b}`},
		{Exact: []byte{9}}, {Exact: []byte{1}}, {Exact: []byte{1, 'a'}}, {Exact: []byte{1, 'a', 9}}, {Exact: []byte{0xff}}, {SchemaID: -1},
	} {
		k.Payload = []byte{}
		if r, err := k.Record(); err == nil || consumers.Classify(err) != consumers.Systemic {
			t.Errorf("%q %v: %v, %v", k.Headers, k.Exact, r, err)
		}
	}
	if _, err := (&Kept{Headers: `{}`}).Record(); !errors.Is(err, fold.ErrNoPayload) {
		t.Errorf("without payload: %v", err)
	}
}

func FuzzHeadersInBronze(f *testing.F) {
	f.Add(`{"a":"b","c":"\n"}`, []byte{1, 'a', 2, 'b'})
	f.Fuzz(func(_ *testing.T, text string, exact []byte) {
		_, _ = (&Kept{Headers: text, Payload: exact}).Record()
		_, _ = (&Kept{Exact: exact, Payload: exact}).Record()
	})
}
