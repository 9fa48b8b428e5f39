package sinktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

func recordChecks() []check {
	var all []check
	for _, c := range []struct {
		name string
		run  func(testing.TB, Backend)
	}{
		{"kept events come back as the records that they were", checkRecords},
		{"kept events are counted", checkKept},
		{"an event that is kept twice comes twice", checkRecordDouble},
		{"records end when they are told to", checkRecordsEnd},
	} {
		all = append(all, offered(c.name, func(o Offers) bool { return o.Records }, c.run))
	}
	return all
}

// headersSeen are headers as nobody sends them, and some do.
var headersSeen = [][]kgo.RecordHeader{
	nil,
	{{Key: "ce_id", Value: []byte("1")}, {Key: "ce_type", Value: []byte("x")}, {Key: "ce_source", Value: []byte("/s")}, {Key: "millrace-seq", Value: []byte("7")}},
	{{Key: "z", Value: []byte("first")}, {Key: "a", Value: []byte("größe \" \\ \n \t 🌾 </script> \u2028")}, {Key: "", Value: []byte{}}},
	{{Key: "twice", Value: []byte("1")}, {Key: "other", Value: []byte{}}, {Key: "twice", Value: []byte("2")}},
	{{Key: "bytes", Value: []byte{0xff, 0, 0xfe}}, {Key: "nul", Value: []byte("a\x00b")}, {Key: "name\xff", Value: []byte("x")}},
	{{Key: "none", Value: nil}, {Key: "empty", Value: []byte{}}},
	{{Key: "fffd", Value: []byte("\ufffd")}, {Key: `\u0000`, Value: []byte(`\u0000`)}},
	{{Key: "long", Value: []byte(strings.Repeat("x", 100_000))}},
}

// seen is an event of the suite that came with headers and key as given.
func seen(tp consumers.TopicPartition, offset int64, key string, schema int, payload []byte, headers []kgo.RecordHeader) consumers.Event {
	ev := event(tp, offset, key, typeAdded, map[string]any{})
	ev.SchemaID, ev.Payload = schema, payload
	ev.Value = append([]byte{0, byte(schema >> 24), byte(schema >> 16), byte(schema >> 8), byte(schema)}, payload...)
	ev.Time = ev.Time.Truncate(time.Millisecond) // as brokers keep it
	return ev.WithRecordHeaders(headers)
}

// manyEvents are events of two partitions, in the order in which they are committed.
func manyEvents() (first, second []consumers.Event) {
	keys := []string{"plain", "ключ", "鍵🔑", "it's \"quoted\" \\", "line\nfeed", strings.Repeat("long", 2048)}
	for i, headers := range headersSeen {
		payload := bytes.Repeat([]byte{byte(i), 0, 0xff}, i*40)
		first = append(first, seen(ledger0, int64(i)*3, keys[i%len(keys)], i<<28+i, payload, headers))
		second = append(second, seen(ledger1, int64(i), keys[(i+1)%len(keys)], 1, payload, headers))
	}
	return first, second
}

// keep commits events.
func keep(t testing.TB, s fold.Sink, tp consumers.TopicPartition, from, next int64, events []consumers.Event) fold.Claim {
	t.Helper()
	c := claim(t, s, tp)
	commit(t, s, fold.Commit{TopicPartition: tp, Epoch: c.Epoch, From: from, Next: next, Events: events})
	return c
}

// records reads the kept events of a range.
func records(t testing.TB, s fold.Sink, tp consumers.TopicPartition, from, until int64) []*kgo.Record {
	t.Helper()
	var got []*kgo.Record
	err := s.(fold.EventKeeper).Records(context.Background(), tp, from, until, func(r *kgo.Record) error { got = append(got, r); return nil })
	if err != nil {
		t.Fatalf("records of %v %d..%d: %v", tp, from, until, err)
	}
	return got
}

func checkRecords(t testing.TB, b Backend) {
	s := open(t, b)
	first, second := manyEvents()
	late := first[2] // it was put aside, and applied afterwards
	c := keep(t, s, ledger0, 0, 100, append(append([]consumers.Event{}, first[:2]...), first[3:]...))
	keep(t, s, ledger1, 0, 100, second)
	commit(t, s, fold.Commit{TopicPartition: ledger0, Epoch: c.Epoch, From: 100, Next: 100, Events: []consumers.Event{late}, Lifted: []string{late.Key}})
	s = open(t, b)
	wantRecords(t, "all", records(t, s, ledger0, 0, 1<<40), first)
	wantRecords(t, "another partition", records(t, s, ledger1, 0, 100), second)
	wantRecords(t, "a range", records(t, s, ledger0, 3, 12), first[1:4])
	wantRecords(t, "a range between events", records(t, s, ledger0, 4, 6), nil)
	wantRecords(t, "a partition never seen", records(t, s, wide0, 0, 100), nil)
}

func wantRecords(t testing.TB, what string, got []*kgo.Record, want []consumers.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d records, want %d", what, len(got), len(want))
		return
	}
	for i := range want {
		if err := sameRecord(got[i], &want[i]); err != nil {
			t.Errorf("%s: record %d: %v", what, i, err)
		}
	}
}

func sameRecord(got *kgo.Record, want *consumers.Event) error {
	switch {
	case got.Topic != want.Topic || got.Partition != want.Partition || got.Offset != want.Offset:
		return fmt.Errorf("it is from %s/%d at %d, want %v at %d", got.Topic, got.Partition, got.Offset, want.TopicPartition, want.Offset)
	case string(got.Key) != want.Key:
		return fmt.Errorf("offset %d: the key is %.50q, want %.50q", got.Offset, got.Key, want.Key)
	case !bytes.Equal(got.Value, want.Value):
		return fmt.Errorf("offset %d: the value is %.50q, want %.50q", got.Offset, got.Value, want.Value)
	case !got.Timestamp.Equal(want.Time):
		return fmt.Errorf("offset %d: the time is %s, want %s", got.Offset, got.Timestamp, want.Time)
	case len(got.Headers) != len(want.RecordHeaders()):
		return fmt.Errorf("offset %d: %d headers, want %d", got.Offset, len(got.Headers), len(want.RecordHeaders()))
	}
	for i, h := range want.RecordHeaders() {
		g := got.Headers[i]
		if g.Key != h.Key || !bytes.Equal(g.Value, h.Value) || (g.Value == nil) != (h.Value == nil) {
			return fmt.Errorf("offset %d: header %d is %q: %.50q, want %q: %.50q", got.Offset, i, g.Key, g.Value, h.Key, h.Value)
		}
	}
	return nil
}

// kept reads the counts; the size is left out, which not every store knows.
func kept(t testing.TB, s fold.Sink) map[consumers.TopicPartition]fold.Kept {
	t.Helper()
	got, err := s.(fold.EventKeeper).Kept(context.Background())
	if err != nil {
		t.Fatalf("kept: %v", err)
	}
	for tp, k := range got {
		k.Bytes, k.Oldest = 0, k.Oldest.UTC()
		got[tp] = k
	}
	return got
}

func wantKept(t testing.TB, s fold.Sink, tp consumers.TopicPartition, want fold.Kept) {
	t.Helper()
	if got := kept(t, s)[tp]; got != want {
		t.Errorf("of %v %+v is kept, want %+v", tp, got, want)
	}
}

func checkKept(t testing.TB, b Backend) {
	s := open(t, b)
	if got := kept(t, s); len(got) != 0 {
		t.Errorf("a new store keeps %v", got)
	}
	first, second := manyEvents()
	keep(t, s, ledger0, 0, 100, first[2:])
	keep(t, s, ledger1, 0, 100, second)
	last := int64(len(first)-1) * 3
	wantKept(t, s, ledger0, fold.Kept{First: 6, Last: last, Events: int64(len(first) - 2), Offsets: int64(len(first) - 2), Oldest: first[2].Time})
	wantKept(t, s, ledger1, fold.Kept{First: 0, Last: int64(len(second) - 1), Events: int64(len(second)), Offsets: int64(len(second)), Oldest: second[0].Time})
	if got := kept(t, s); len(got) != 2 {
		t.Errorf("events of %d partitions are kept, want 2", len(got))
	}
}

func checkRecordDouble(t testing.TB, b Backend) {
	planter, ok := b.(EventPlanter)
	if !ok {
		return // This store has no way to keep an event twice.
	}
	s := open(t, b)
	first, _ := manyEvents()
	keep(t, s, ledger0, 0, 100, first[:3])
	planter.DoubleEvent(t, ledger0, 3)
	wantRecords(t, "with a double", records(t, s, ledger0, 0, 100), []consumers.Event{first[0], first[1], first[1], first[2]})
	wantKept(t, s, ledger0, fold.Kept{First: 0, Last: 6, Events: 4, Offsets: 3, Oldest: first[0].Time})
}

func checkRecordsEnd(t testing.TB, b Backend) {
	s := open(t, b)
	first, _ := manyEvents()
	keep(t, s, ledger0, 0, 100, first)
	enough, calls := errors.New("enough"), 0
	err := s.(fold.EventKeeper).Records(context.Background(), ledger0, 0, 100, func(*kgo.Record) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("yield had enough after %d calls, and the error is %v", calls, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.(fold.EventKeeper).Records(ctx, ledger0, 0, 100, func(*kgo.Record) error { return nil }); err == nil {
		t.Error("records were read although the context had ended")
	}
}
