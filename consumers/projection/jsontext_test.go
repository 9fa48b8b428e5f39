package projection_test

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
)

type noRegistry struct{ consumers.Registry }

// TestHeadersAsJSON: the text of the headers is that of the map of them.
func TestHeadersAsJSON(t *testing.T) {
	d, err := consumers.NewDecoder(consumers.DecoderConfig{Registry: noRegistry{}})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		var r kgo.Record // without a value it is poison, and has its headers all the same
		for range rapid.IntRange(0, 20).Draw(t, "headers") {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: rapid.StringMatching(`[a-c"]{0,2}`).Draw(t, "name"), Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value")})
		}
		ev, err := d.Decode(t.Context(), &r)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]any{}
		for name, value := range ev.Headers() {
			m[name] = value
		}
		if got, want := projection.AppendHeadersJSON(nil, &ev), projection.AppendJSON(nil, m); !bytes.Equal(got, want) {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}
