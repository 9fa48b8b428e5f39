package projection_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

const timesSchema = `{"type":"record","name":"Timed","namespace":"bank","millrace.topic":"bank.times","fields":[
	{"name":"ms","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"ns","type":{"type":"long","logicalType":"timestamp-nanos"}},
	{"name":"day","type":{"type":"int","logicalType":"date"}}]}`

type timesRegistry struct{}

func (timesRegistry) Schema(context.Context, int) (string, error) { return timesSchema, nil }

// Times whose type fits their column are still held to the years and the fineness that columns have, decoded events as well as made ones.
func TestDecodedTimesThatNoColumnHoldsArePoison(t *testing.T) {
	s, err := schemas.Parse(timesSchema)
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := schemas.NewCatalogue(s)
	if err != nil {
		t.Fatal(err)
	}
	p, err := projection.Parse("times.yaml", []byte("entity: timed\ntopic: bank.times\non:\n  bank.Timed: {set: {ms: event.ms, ns: event.ns, day: event.day}}\n"), catalogue)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := avro.New(timesSchema)
	if err != nil {
		t.Fatal(err)
	}
	d, err := consumers.NewDecoder(consumers.DecoderConfig{Registry: timesRegistry{}, Catalogue: catalogue, Reads: p.Reads})
	if err != nil {
		t.Fatal(err)
	}
	first, last := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		ms, ns, day any
		want        string
	}{
		{first, noon, first, ""},
		{last, noon.Add(time.Microsecond), last, ""},
		{first.Add(-time.Millisecond), noon, first, "ms: year 0"},
		{last.Add(24 * time.Hour), noon, first, "ms: year 10000"},
		{first, noon.Add(1), first, "ns: "},
		{first, noon, first.Add(-24 * time.Hour), "day: year 0"},
		{first, noon, last.Add(24 * time.Hour), "day: year 10000"},
	} {
		value, err := codec.AppendEncode(avro.AppendFrame(nil, 1), map[string]any{"ms": c.ms, "ns": c.ns, "day": c.day})
		if err != nil {
			t.Fatal(err)
		}
		ev, err := d.Decode(t.Context(), &kgo.Record{Key: []byte("k"), Value: value})
		if err != nil || ev.Err != nil {
			t.Fatal(err, ev.Err)
		}
		if _, err := p.Fold(projection.State{}, &ev); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %v %v: %v, want %q", c.ms, c.ns, c.day, err, c.want)
		}
	}
}
