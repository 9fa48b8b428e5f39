package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// parcelMoved2 is the second version of a type: a field more, with a default.
const parcelMoved2 = `{
  "type": "record", "name": "ParcelMoved", "namespace": "post", "millrace.topic": "post.parcels", "millrace.key": "parcel_id",
  "fields": [
    {"name": "parcel_id", "type": "string"},
    {"name": "depot", "type": "string"},
    {"name": "moved_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "carrier", "type": "string", "default": "own"},
    {"name": "via", "type": ["null", "post.Address"], "default": null}
  ]
}`

// An exported topic is read by other people's libraries, goavro and Python's fastavro: every record, several types, two versions of
// one, a type that two others use, and records that are no Avro.
func TestAnExportedTopicIsReadByOthers(t *testing.T) {
	t.Parallel()
	s, broker, db := realSite(t)
	python := harness.Python(t)
	s.setUp()
	conn := db.Conn(t)
	relay := s.start("relay", "--listen", "127.0.0.1:0")
	relay.WaitLine(t, "relay publishes", patience)

	want := map[string]string{} // the event of each id, as JSON
	write := func(kind, body, more string) {
		t.Helper()
		var id string
		if err := conn.QueryRow(t.Context(), "select outbox.emit($1, null, $2)::text", kind, body).Scan(&id); err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(strings.TrimSuffix(body, "}")+more+"}"), &fields); err != nil {
			t.Fatal(err)
		}
		want[id] = text(t, map[string]any{kind: fields})
	}
	for i := range 20 {
		id := fmt.Sprintf("p%d", i)
		write("post.ParcelAccepted", accepted(id, "Bremen"), "")
		write("post.ParcelMoved", moved(id, "d1"), `,"carrier":"own","via":null`) // what the newest version makes of it
	}
	readCommitted(t, broker, s.topic("parcels"), len(want))
	produce(t, broker, s.topic("parcels"), &kgo.Record{Key: []byte("foreign"), Value: []byte("not Avro \x00\xff"), Headers: []kgo.RecordHeader{{Key: "by", Value: []byte("hand")}}})
	produce(t, broker, s.topic("parcels"), &kgo.Record{Value: nil})

	s.write("schemas/ParcelMoved.avsc", s.own(parcelMoved2))
	s.ok("schema", "push")
	for i := range 20 {
		id := fmt.Sprintf("p%d", i)
		body := strings.TrimSuffix(moved(id, "d2"), "}") + `,"carrier":"ACME","via":{"street":"Ring 1","city":"Kiel"}}`
		write("post.ParcelMoved", body, "")
		write("post.ParcelDelivered", delivered(id, "A. Berg"), "")
	}
	records := readCommitted(t, broker, s.topic("parcels"), len(want)+2)

	file := filepath.Join(s.dir, "parcels.avro")
	golden(t, "export", s.ok("export", s.topic("parcels"), "--to", "parcels.avro"))
	if got := s.fails(1, "export", s.topic("parcels"), "--to", "parcels.avro"); !strings.Contains(got, "exists already") {
		t.Errorf("a second time: %s", got)
	}
	if got := s.fails(1, "export", "nothing."+s.name, "--to", "nothing.avro"); got != "millrace: no such topic: nothing."+s.name+"\n" {
		t.Errorf("a topic that is not there: %s", got)
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, "*nothing*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %q %v", left, err)
	}

	expected := make([]string, len(records))
	for i, r := range records {
		expected[i] = expectedRecord(t, r, want)
	}
	slices.Sort(expected)
	same(t, "goavro", byGoavro(t, file), expected)
	same(t, "fastavro", byFastavro(t, python, file), expected)
}

// expectedRecord is what the file must hold of a record.
func expectedRecord(t *testing.T, r *kgo.Record, events map[string]string) string {
	t.Helper()
	headers := map[string]any{}
	var event any // null for a record without a value
	if r.Value != nil {
		event = raw(r.Value)
	}
	for _, h := range r.Headers {
		headers[h.Key] = raw(h.Value)
		if h.Key == "ce_id" {
			if err := json.Unmarshal([]byte(events[string(h.Value)]), &event); err != nil {
				t.Fatalf("event %s was never written: %v", h.Value, err)
			}
		}
	}
	var key any
	if r.Key != nil {
		key = raw(r.Key)
	}
	return text(t, map[string]any{"topic": r.Topic, "partition": r.Partition, "offset": r.Offset, "timestamp": r.Timestamp.UTC(),
		"key": key, "headers": headers, "event": event})
}

func raw(b []byte) string { return "base64:" + base64.StdEncoding.EncodeToString(b) }

// text is JSON with its keys in order.
func text(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func same(t *testing.T, who string, got, want []string) {
	t.Helper()
	slices.Sort(got)
	if len(got) != len(want) {
		t.Errorf("%s reads %d records, not %d", who, len(got), len(want))
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s reads, first of all,\n%s\nnot\n%s", who, got[i], want[i])
			return
		}
	}
}

func byGoavro(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := goavro.NewOCFReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for r.Scan() {
		v, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, text(t, plainValue(v)))
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// plainValue makes of goavro's values what fastavro's become: unions of a record by its name, others by the value alone.
func plainValue(v any) any {
	switch v := v.(type) {
	case []byte:
		return raw(v)
	case *big.Rat:
		return v.FloatString(2)
	case time.Time:
		return v.UTC()
	case map[string]any:
		for _, branch := range []string{"bytes", "string"} {
			if inner, ok := v[branch]; ok && len(v) == 1 {
				return plainValue(inner)
			}
		}
		out := map[string]any{}
		for k, inner := range v {
			out[k] = plainValue(inner)
		}
		if via, ok := out["via"].(map[string]any); ok && via["post.Address"] != nil {
			out["via"] = via["post.Address"] // the expected event names no branch
		}
		return out
	}
	return v
}

func byFastavro(t *testing.T, python, file string) []string {
	t.Helper()
	cmd := exec.Command(python, filepath.Join("testdata", "fastavro_reader.py"), file)
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("fastavro: %v", err)
	}
	var out []string
	for line := range strings.Lines(string(stdout)) {
		var v any
		dec := json.NewDecoder(strings.NewReader(line))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		out = append(out, text(t, plainValue(v)))
	}
	return out
}
