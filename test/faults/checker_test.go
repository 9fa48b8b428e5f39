package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
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
	all, err := compare(w.log.truth(), found, w.codec())
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

func (w *world) codec() *avro.Codec {
	w.t.Helper()
	codec, err := avro.New(stepSchema(w.topic, ""))
	if err != nil {
		w.t.Fatal(err)
	}
	return codec
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
func compare(truth history.Truth, records []*kgo.Record, codec *avro.Codec) ([]history.Violation, error) {
	ledger := history.NewLedger()
	var all []history.Violation
	add := func(kind history.Kind, format string, args ...any) {
		all = append(all, history.Violation{Kind: kind, What: fmt.Sprintf(format, args...)})
	}
	home, seqs, last := map[string]int32{}, map[int64]bool{}, map[int32]int64{}
	for _, rec := range records {
		f, err := read(rec, codec)
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

func read(rec *kgo.Record, codec *avro.Codec) (found, error) {
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
	fields, err := codec.Decode(payload)
	if err != nil {
		return f, err
	}
	f.Key, f.N = string(rec.Key), fields["n"].(int64)
	if fields["key"] != f.Key {
		return f, fmt.Errorf("key %s, in the value %v", f.Key, fields["key"])
	}
	return f, nil
}

// records reads a topic to its end as a read_committed consumer sees it, once no transaction is open on it, past the gate.
func (w *world) records(topic string) []*kgo.Record {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	ends := w.stableEnds(ctx, topic)
	at := map[int32]kgo.Offset{}
	left := 0
	for p, end := range ends {
		at[p] = kgo.NewOffset().AtStart()
		if end > 0 {
			left++
		}
	}
	c := w.broker.Client(w.t, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}))
	defer c.Close()
	var out []*kgo.Record
	for left > 0 {
		fetches := c.PollFetches(ctx)
		if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
			w.t.Fatalf("read %s: %v", topic, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Offset+1 == ends[rec.Partition] {
				left--
			}
			if !rec.Attrs.IsControl() && rec.Offset < ends[rec.Partition] {
				out = append(out, rec)
			}
		})
	}
	return out
}

// stableEnds returns where a topic ends once no transaction is open on it.
func (w *world) stableEnds(ctx context.Context, topic string) map[int32]int64 {
	w.t.Helper()
	ends := map[int32]int64{}
	eventually(w.t, "open transactions on "+topic+" to end", func() (bool, string) {
		high, err := w.admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return false, err.Error()
		}
		stable, err := w.admin.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return false, err.Error()
		}
		var open []string
		high.Each(func(h kadm.ListedOffset) {
			s, _ := stable.Lookup(topic, h.Partition)
			ends[h.Partition] = h.Offset
			if err := errors.Join(h.Err, s.Err); err != nil || s.Offset < h.Offset {
				open = append(open, fmt.Sprintf("partition %d: %d of %d are stable, %v", h.Partition, s.Offset, h.Offset, err))
			}
		})
		return len(open) == 0 && len(ends) > 0, fmt.Sprint(open)
	})
	return ends
}

// A proof that cannot fail proves nothing: each fault is put into what would be right, and must be found.
func TestTheCheckerFindsEveryFault(t *testing.T) {
	codec, err := avro.New(stepSchema("t", ""))
	if err != nil {
		t.Fatal(err)
	}
	log := newCommitted()
	var right []*kgo.Record
	for n := int64(1); n <= 3; n++ {
		for i, key := range []string{"a", "b"} {
			e := event{id: uuid.New(), key: key, n: n}
			log.add([]event{e}, nil)
			right = append(right, record(t, codec, e, int32(i), n-1, int64(len(right)+1)))
		}
	}
	ghost := record(t, codec, event{id: uuid.New(), key: "a", n: 4}, 0, 3, 7)
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
		all, err := compare(log.truth(), c.records, codec)
		if err != nil {
			t.Fatal(err)
		}
		if n := history.Count(all); c.kind == "" && len(all) != 0 || c.kind != "" && n[c.kind] == 0 {
			t.Errorf("wanted %q, found %v", c.kind, all)
		}
	}
}

func record(t *testing.T, codec *avro.Codec, e event, partition int32, offset, seq int64) *kgo.Record {
	t.Helper()
	value, err := codec.AppendEncodeJSON(avro.AppendFrame(nil, 1), fmt.Appendf(nil, `{"key": %q, "n": %d}`, e.key, e.n))
	if err != nil {
		t.Fatal(err)
	}
	return &kgo.Record{Partition: partition, Offset: offset, Key: []byte(e.key), Value: value, Headers: []kgo.RecordHeader{
		{Key: "ce_id", Value: []byte(uuid.UUID(e.id).String())}, {Key: "millrace-seq", Value: strconv.AppendInt(nil, seq, 10)},
	}}
}
