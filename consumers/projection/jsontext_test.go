package projection_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
)

type noRegistry struct{ consumers.Registry }

// TestHeadersAsJSON: the text of the headers is the object of them, in the order in which the last of each name stands.
func TestHeadersAsJSON(t *testing.T) {
	d, err := consumers.NewDecoder(consumers.DecoderConfig{Registry: noRegistry{}})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		var r kgo.Record // without a value it is poison, and has its headers all the same
		for range rapid.IntRange(0, 40).Draw(t, "headers") {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: rapid.StringMatching(`[a-c"]{0,2}`).Draw(t, "name"), Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value")})
		}
		ev, err := d.Decode(t.Context(), &r)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for i, h := range r.Headers {
			if !slices.ContainsFunc(r.Headers[i+1:], func(later kgo.RecordHeader) bool { return later.Key == h.Key }) {
				names = append(names, h.Key)
			}
		}
		want := []byte("{")
		for i, name := range names {
			if i > 0 {
				want = append(want, ',')
			}
			want = append(projection.AppendJSON(want, name), ':')
			want = projection.AppendJSON(want, ev.Headers()[name])
		}
		if got := projection.AppendHeadersJSON(nil, &ev); !bytes.Equal(got, append(want, '}')) {
			t.Fatalf("got %s, want %s}", got, want)
		}
	})
}
