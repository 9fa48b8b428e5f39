package bench

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas/avro"
)

// framed is event n as the relay publishes it.
func framed(t *testing.T, m *maker, n int64) []byte {
	t.Helper()
	return m.append(avro.AppendFrame(nil, 7), n, 42)
}

func TestEventsAreOfTheirSchemaAndAbout300Bytes(t *testing.T) {
	m, err := newMaker()
	if err != nil {
		t.Fatal(err)
	}
	codec, err := avro.New(schemaText)
	if err != nil {
		t.Fatal(err)
	}
	var bytes int
	for n := range int64(1000) {
		payload := m.append(nil, n, -n)
		bytes += len(payload)
		record, err := codec.Decode(payload)
		if err != nil {
			t.Fatalf("event %d: %v", n, err)
		}
		if record["n"] != n || record["stamp"] != -n {
			t.Fatalf("event %d says it is %v at %v", n, record["n"], record["stamp"])
		}
		if got, stamp, err := read(append(avro.AppendFrame(nil, 7), payload...)); err != nil || got != n || stamp != -n {
			t.Fatalf("event %d was read as %d at %d: %v", n, got, stamp, err)
		}
	}
	for _, short := range [][]byte{nil, {0, 0, 0, 0, 7}, {0, 0, 0, 0, 7, 0x80, 0x80}, append([]byte{1}, make([]byte, 20)...)} {
		if _, _, err := read(short); err == nil {
			t.Errorf("%x was read as an event", short)
		}
	}
	if mean := bytes / 1000; mean < 280 || mean > 320 {
		t.Errorf("an event has %d bytes", mean)
	}
}

func TestTheTallyFindsWhatIsWrong(t *testing.T) {
	m, err := newMaker()
	if err != nil {
		t.Fatal(err)
	}
	record := func(n int64, partition int32) *kgo.Record {
		return &kgo.Record{Key: []byte(keyOf(n)), Value: framed(t, m, n), Partition: partition}
	}
	for name, c := range map[string]struct {
		records []*kgo.Record
		want    counted
	}{
		"as it should be": {[]*kgo.Record{record(1, 0), record(0, 1), record(keys, 1)}, counted{Events: 3}},
		"lost":            {[]*kgo.Record{record(0, 0), record(keys, 0)}, counted{Events: 2, Missing: 1}},
		"twice":           {[]*kgo.Record{record(0, 0), record(1, 1), record(0, 0), record(keys, 0)}, counted{Events: 4, Duplicates: 1}},
		"inverted":        {[]*kgo.Record{record(keys, 0), record(0, 0), record(1, 0)}, counted{Events: 3, Inversions: 1}},
		"key split":       {[]*kgo.Record{record(0, 0), record(1, 0), record(keys, 1)}, counted{Events: 3, Inversions: 1}},
		"foreign": {[]*kgo.Record{record(0, 0), record(1, 0), record(keys, 0), record(2*keys, 0), {Value: []byte{1}}},
			counted{Events: 5, Strangers: 2}},
	} {
		tally := newTally(keys + 1)
		for _, r := range c.records {
			tally.add(r)
		}
		got := tally.result(3)
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if ok := c.want == (counted{Events: c.want.Events}); ok != (got.err() == nil) {
			t.Errorf("%s: %v", name, got.err())
		}
	}
}

func TestTheReportJudgesTheMedian(t *testing.T) {
	r := &Report{Versions: map[string]string{"kafka": "1"}}
	for _, v := range []float64{0.5, 0.61234, 0.7} {
		r.in("drain").row("ratio", "", v, atLeast(0.6))
	}
	for _, v := range []float64{2, 4, 123456.7} {
		r.in("drain").row("cpu", "s", v, atMost(3))
	}
	var table, raw bytes.Buffer
	if err := r.Print(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0.6123", "0.5 - 0.7", ">= 0.6", "yes", "4 s", "2 - 123,500", "<= 3 s", "NO", "kafka 1"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
	if err := r.JSON(&raw); err != nil || !strings.Contains(raw.String(), `"met": false`) {
		t.Errorf("%v\n%s", err, raw.String())
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -100: "-100", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

func TestSalesAreOfTheirSchema(t *testing.T) {
	m, err := newSaleMaker()
	if err != nil {
		t.Fatal(err)
	}
	codec, err := avro.New(saleSchema)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64]int64{}
	for n := range int64(5000) {
		key, s := saleKeyText(saleKey(n)), m.of(n)
		record, err := codec.Decode(m.append(nil, key, n))
		if err != nil {
			t.Fatalf("event %d: %v", n, err)
		}
		if record["sale_id"] != key || record["n"] != n || record["customer_id"] != s.customer || record["weight"] != s.weight || len(record) != 12 {
			t.Fatalf("event %d says it is %v", n, record)
		}
		seen[saleKey(n)] = n
	}
	last, keys, sum := latest(5000)
	want := int64(0)
	for key, n := range seen {
		if want += n; last[key] != n {
			t.Errorf("the last event of key %d is %d, not %d", key, n, last[key])
		}
	}
	if keys != int64(len(seen)) || sum != want {
		t.Errorf("%d keys that add up to %d, not %d and %d", keys, sum, len(seen), want)
	}
}

// What the ceilings write in batches comes to the same as the events one by one, each key in one lane.
func TestBatchesHoldTheNewestOfEachKey(t *testing.T) {
	newest, lanes := map[int64]int64{}, map[int64]int{}
	for lane, all := range batches(20_000, 3, 1000) {
		for _, batch := range all {
			before := int64(-1)
			for _, n := range batch {
				key := saleKey(n)
				if was, ok := newest[key]; ok && (was >= n || lanes[key] != lane) {
					t.Fatalf("key %d: event %d in lane %d after %d in lane %d", key, n, lane, was, lanes[key])
				}
				if key <= before {
					t.Fatalf("key %d after %d", key, before)
				}
				newest[key], lanes[key], before = n, lane, key
			}
		}
	}
	last, keys, _ := latest(20_000)
	if int64(len(newest)) != keys {
		t.Errorf("%d keys, want %d", len(newest), keys)
	}
	for key, n := range newest {
		if last[key] != n {
			t.Errorf("key %d ends with event %d, want %d", key, n, last[key])
		}
	}
}

func TestAReportKeepsWhatOthersMeasured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sinks.json")
	first := &Report{Commit: "a", Versions: map[string]string{"redis": "1"}}
	first.in("cache").row("rate", "1/s", 1)
	first.in("silver").row("rate", "1/s", 2)
	second := &Report{Commit: "b", Versions: map[string]string{}}
	second.in("silver").row("rate", "1/s", 3, atLeast(4))
	if err := second.Keep(file); err != nil || len(second.Rows) != 1 {
		t.Fatalf("%d rows without a file: %v", len(second.Rows), err)
	}
	if err := first.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := second.Keep(file); err != nil {
		t.Fatal(err)
	}
	if len(second.Rows) != 2 || second.Rows[0].Median != 3 || second.Rows[1].Case != "cache" || second.Rows[1].Commit != "a" || second.Versions["redis"] != "1" {
		t.Errorf("%+v", second)
	}
}
