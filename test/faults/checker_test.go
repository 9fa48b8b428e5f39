package faults

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/test/history"
)

// verify holds the topic against the log and fails the test for every difference.
func (w *world) verify() {
	w.t.Helper()
	if err := w.log.settle(w.t.Context(), w); err != nil {
		w.t.Fatal(err)
	}
	found := w.records(w.topic)
	all, err := compare(w.log.truth(), found)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, v := range all {
		if i == 20 {
			w.t.Errorf("and %d more", len(all)-i)
			break
		}
		w.t.Error(v)
	}
	w.t.Logf("%d events committed, %d in the topic, %d violations", w.log.events(), len(found), len(all))
}

// found is what the checker looks at of a record.
type found struct {
	partition int32
	offset    int64
	seq       int64 // millrace-seq
	history.Seen
}

// Further kinds of violation: what a topic must be beside holding every event once and in order.
const (
	// moved: events of one key in two partitions.
	moved history.Kind = "moved"
	// version: a millrace-seq that is missing, used twice, or lower than one before it in its partition.
	version history.Kind = "version"
)

// compare returns everything that is wrong with the records of a topic.
func compare(truth history.Truth, records []*kgo.Record) ([]history.Violation, error) {
	ledger := history.NewLedger()
	var all []history.Violation
	add := func(kind history.Kind, format string, args ...any) {
		all = append(all, history.Violation{Kind: kind, What: fmt.Sprintf(format, args...)})
	}
	home, seqs, last := map[string]int32{}, map[int64]bool{}, map[int32]int64{}
	for _, rec := range records {
		f, err := read(rec)
		if err != nil {
			return nil, fmt.Errorf("partition %d, offset %d: %w", rec.Partition, rec.Offset, err)
		}
		ledger.Add(f.Seen)
		if at, known := home[f.Key]; known && at != f.partition {
			add(moved, "key %s is in partitions %d and %d", f.Key, at, f.partition)
		}
		home[f.Key] = f.partition
		if seqs[f.seq] || f.seq <= last[f.partition] {
			add(version, "partition %d, offset %d: %d after %d", f.partition, f.offset, f.seq, last[f.partition])
		}
		seqs[f.seq], last[f.partition] = true, max(last[f.partition], f.seq)
	}
	for seq := int64(1); seq <= int64(len(seqs)); seq++ {
		if !seqs[seq] {
			add(version, "1 to %d have a gap at %d", len(seqs), seq)
			break
		}
	}
	return append(all, ledger.Verify(truth)...), nil
}

func read(rec *kgo.Record) (found, error) {
	f := found{partition: rec.Partition, offset: rec.Offset}
	for _, h := range rec.Headers {
		var err error
		switch h.Key {
		case "ce_id":
			var id uuid.UUID
			id, err = uuid.ParseBytes(h.Value)
			f.EventID = id
		case "millrace-seq":
			f.seq, err = strconv.ParseInt(string(h.Value), 10, 64)
		}
		if err != nil {
			return f, fmt.Errorf("header %s: %w", h.Key, err)
		}
	}
	_, payload, err := avro.SplitFrame(rec.Value)
	if err != nil {
		return f, err
	}
	f.Key = string(rec.Key)
	if f.N, err = counter(payload, f.Key); err != nil {
		return f, fmt.Errorf("key %s: %w", f.Key, err)
	}
	return f, nil
}

// counter reads the two fields that every version of the schema begins with: the key, which it must be, and its counter.
func counter(payload []byte, key string) (int64, error) {
	size, at := binary.Varint(payload)
	if at <= 0 || size < 0 || size > int64(len(payload)-at) || string(payload[at:at+int(size)]) != key {
		return 0, fmt.Errorf("the value %x does not begin with it", payload)
	}
	n, width := binary.Varint(payload[at+int(size):])
	if width <= 0 {
		return 0, fmt.Errorf("the value %x has no counter", payload)
	}
	return n, nil
}

// A proof that cannot fail proves nothing: each fault is put into what would be right, and must be found.
func TestTheCheckerFindsEveryFault(t *testing.T) {
	log := newCommitted()
	var right []*kgo.Record
	for n := int64(1); n <= 3; n++ {
		for i, key := range []string{"a", "b"} {
			e := event{id: uuid.New(), key: key, n: n}
			log.add([]event{e}, nil)
			right = append(right, record(e, int32(i), n-1, int64(len(right)+1)))
		}
	}
	ghost := record(event{id: uuid.New(), key: "a", n: 4}, 0, 3, 7)
	again := *right[4]
	again.Offset = 3
	elsewhere := *right[4]
	elsewhere.Partition = 1
	for _, c := range []struct {
		kind    history.Kind
		records []*kgo.Record
	}{
		{"", right},
		{history.Missing, right[:5]},
		{history.Twice, append(slices.Clone(right), &again)},
		{history.Ghost, append(slices.Clone(right), ghost)},
		{history.Inversion, []*kgo.Record{right[2], right[0], right[4], right[1], right[3], right[5]}},
		{moved, []*kgo.Record{right[0], right[1], right[2], right[3], &elsewhere, right[5]}},
		{version, []*kgo.Record{right[0], right[1], right[3], right[4], right[5]}},
	} {
		all, err := compare(log.truth(), c.records)
		if err != nil {
			t.Fatal(err)
		}
		if n := history.Count(all); c.kind == "" && len(all) != 0 || c.kind != "" && n[c.kind] == 0 {
			t.Errorf("wanted %q, found %v", c.kind, all)
		}
	}
}

func record(e event, partition int32, offset, seq int64) *kgo.Record {
	value := append(binary.AppendVarint(avro.AppendFrame(nil, 1), int64(len(e.key))), e.key...)
	return &kgo.Record{Partition: partition, Offset: offset, Key: []byte(e.key), Value: binary.AppendVarint(value, e.n), Headers: []kgo.RecordHeader{
		{Key: "ce_id", Value: []byte(uuid.UUID(e.id).String())}, {Key: "millrace-seq", Value: strconv.AppendInt(nil, seq, 10)},
	}}
}
