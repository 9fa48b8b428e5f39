package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/avro/container"
	"github.com/millrace/millrace/schemas/registry"
)

// shelf is a registry: the schemas by id. A nil text means that the registry is away.
type shelf map[int]string

func (s shelf) Schema(_ context.Context, id int) (string, error) {
	text, ok := s[id]
	switch {
	case !ok:
		return "", fmt.Errorf("schema %d: %w", id, registry.ErrNotFound)
	case text == "away":
		return "", registry.ErrUnavailable
	}
	return text, nil
}

func (s shelf) ids() map[int]bool {
	out := map[int]bool{}
	for id := range s {
		out[id] = true
	}
	return out
}

func record(name, fields string) string {
	return `{"type":"record","name":"` + name + `","namespace":"post","fields":[` + fields + `]}`
}

const (
	address = `{"type":"record","name":"Address","namespace":"post","fields":[{"name":"city","type":"string"}]}`
	from    = `{"name":"from","type":` + address + `}`
	id      = `{"name":"id","type":"string"}`
	price   = `{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}}`
)

// written is a framed event.
func written(t *testing.T, s shelf, id int, fields map[string]any) []byte {
	t.Helper()
	c, err := avro.New(s[id])
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.AppendEncode(avro.AppendFrame(nil, id), fields)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// exported writes the values as a file and reads it back with goavro.
func exported(t *testing.T, s shelf, values ...[]byte) (events []any, stats Stats) {
	t.Helper()
	e, err := newEnvelope(t.Context(), Config{Registry: s}, s.ids())
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := container.NewWriter(&file, e.schema)
	if err != nil {
		t.Fatal(err)
	}
	stats.Types = map[string]int64{}
	for i, v := range values {
		r := &kgo.Record{Topic: "t", Offset: int64(i), Timestamp: time.UnixMilli(1), Value: v}
		if err := e.append(w, r, &stats); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := goavro.NewOCFReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	for r.Scan() {
		v, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		m := v.(map[string]any)
		if m["offset"] != int64(len(events)) {
			t.Errorf("offset %v at %d", m["offset"], len(events))
		}
		events = append(events, m["event"])
	}
	return events, stats
}

// Types that share a type: the file may define it once.
func TestASharedTypeIsDefinedOnce(t *testing.T) {
	s := shelf{
		1: record("Accepted", id+","+from),
		2: record("Returned", id+`,{"name":"to","type":["null",`+address+`]},{"name":"via","type":{"type":"array","items":"post.Address"}},{"name":"by","type":{"type":"map","values":"post.Address"}}`),
	}
	kiel := map[string]any{"city": "Kiel"}
	events, stats := exported(t, s,
		written(t, s, 1, map[string]any{"id": "a", "from": kiel}),
		written(t, s, 2, map[string]any{"id": "b", "to": kiel, "via": []any{kiel, kiel}, "by": map[string]any{"x": kiel}}))
	want := []string{
		"map[post.Accepted:map[from:map[city:Kiel] id:a]]",
		"map[post.Returned:map[by:map[x:map[city:Kiel]] id:b to:map[post.Address:map[city:Kiel]] via:[map[city:Kiel] map[city:Kiel]]]]",
	}
	for i := range want {
		if got := fmt.Sprint(events[i]); got != want[i] {
			t.Errorf("got  %s\nwant %s", got, want[i])
		}
	}
	if stats.Records != 2 || stats.Raw != 0 || stats.Types["post.Accepted"] != 1 || stats.Types["post.Returned"] != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestTypesThatDefineOneNameDifferentlyAreRefused(t *testing.T) {
	other := strings.Replace(address, `"string"`, `"long"`, 1)
	s := shelf{1: record("Accepted", id+","+from), 2: record("Returned", id+`,{"name":"to","type":`+other+`}`)}
	_, err := newEnvelope(t.Context(), Config{Registry: s}, s.ids())
	if err == nil || !strings.Contains(err.Error(), "define post.Address differently") {
		t.Error(err)
	}
}

// Several versions of a type: the file has the newest, and the others' records are brought to it.
func TestOlderVersionsAreBroughtToTheNewest(t *testing.T) {
	s := shelf{
		3: record("Accepted", id),
		7: record("Accepted", id+`,{"name":"weight","type":"long","default":-1}`),
		9: record("Accepted", id+`,{"name":"weight","type":"long","default":-1},{"name":"note","type":["null","string"],"default":null}`),
	}
	events, stats := exported(t, s, written(t, s, 3, map[string]any{"id": "a"}), written(t, s, 7, map[string]any{"id": "b", "weight": 5}),
		written(t, s, 9, map[string]any{"id": "c", "weight": 6, "note": "x"}))
	want := "[map[post.Accepted:map[id:a note:<nil> weight:-1]] map[post.Accepted:map[id:b note:<nil> weight:5]] map[post.Accepted:map[id:c note:map[string:x] weight:6]]]"
	if got := fmt.Sprint(events); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if stats.Types["post.Accepted"] != 3 {
		t.Errorf("%+v", stats)
	}
}

func TestAVersionThatDoesNotFitIsKeptAsBytes(t *testing.T) {
	s := shelf{1: record("Accepted", id), 2: record("Accepted", `{"name":"other","type":"string"}`)}
	old := written(t, s, 1, map[string]any{"id": "a"})
	events, stats := exported(t, s, old, written(t, s, 2, map[string]any{"other": "b"}))
	if !bytes.Equal(events[0].(map[string]any)["bytes"].([]byte), old) || fmt.Sprint(events[1]) != "map[post.Accepted:map[other:b]]" || stats.Raw != 1 {
		t.Errorf("%v %+v", events, stats)
	}
}

// Nothing is left out: what cannot be read is kept as it is, and a record without a value stays one.
func TestWhatIsNoAvroIsKept(t *testing.T) {
	s := shelf{1: record("Accepted", id+","+price)}
	good := written(t, s, 1, map[string]any{"id": "a", "price": big.NewRat(599, 100)})
	values := [][]byte{good, []byte("text"), {}, nil, good[:len(good)-1], append(bytes.Clone(good), 0), avro.AppendFrame(nil, 404), {0, 0, 0, 0, 1, 0xff, 0xff}}
	events, stats := exported(t, s, values...)
	for i, v := range events {
		switch {
		case i == 0:
			m := v.(map[string]any)["post.Accepted"].(map[string]any)
			if m["price"].(*big.Rat).Cmp(big.NewRat(599, 100)) != 0 {
				t.Errorf("%v", v)
			}
		case values[i] == nil:
			if v != nil {
				t.Errorf("no value became %v", v)
			}
		case !bytes.Equal(v.(map[string]any)["bytes"].([]byte), values[i]):
			t.Errorf("%x became %v", values[i], v)
		}
	}
	if stats.Records != 8 || stats.Raw != 6 || stats.Types[Bytes] != 6 || stats.Types[None] != 1 {
		t.Errorf("%+v", stats)
	}
}

// A registry that does not know an id is one thing; one that is away must not turn readable events into bytes.
func TestARegistryThatIsAwayIsAnError(t *testing.T) {
	s := shelf{1: "away"}
	if _, err := newEnvelope(t.Context(), Config{Registry: s}, s.ids()); !errors.Is(err, registry.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := newEnvelope(t.Context(), Config{Registry: shelf{}}, map[int]bool{5: true}); err != nil {
		t.Error(err)
	}
}

func FuzzEventsOfOthers(f *testing.F) {
	text := record("Accepted", id+","+from+","+price)
	f.Add([]byte{0, 0, 0, 0, 1, 2, 'a', 2, 'b', 2, 1})
	f.Add([]byte{0, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, value []byte) {
		events, stats := exported(t, shelf{1: text}, value)
		if len(events) != 1 || stats.Records != 1 {
			t.Fatalf("%x: %v %+v", value, events, stats)
		}
		if stats.Raw == 1 && !bytes.Equal(events[0].(map[string]any)["bytes"].([]byte), value) {
			t.Fatalf("%x is kept as %v", value, events[0])
		}
	})
}

func TestOnceLeavesAFieldThatIsCalledLikeAType(t *testing.T) {
	s, err := schemas.Parse(record("Accepted", `{"name":"name","type":"string"},{"name":"type","type":{"type":"enum","name":"Kind","symbols":["A"]}},{"name":"again","type":"Kind"}`))
	if err != nil {
		t.Fatal(err)
	}
	e := &envelope{}
	if err := e.compile([]*schemas.Schema{s}); err != nil {
		t.Fatal(err)
	}
	if _, err := goavro.NewCodec(e.schema); err != nil {
		t.Errorf("%v\n%s", err, e.schema)
	}
}
