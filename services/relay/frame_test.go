package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// framed frames one event over the fakes and returns its record.
func framed(t *testing.T, b *bench, e store.Event) *kgo.Record {
	t.Helper()
	e.Fingerprint = b.table.schema.Fingerprint
	got, err := b.framer.frame(context.Background(), []store.Event{e}, b.cursor.clone())
	if err != nil {
		t.Fatal(err)
	}
	return got.records[0]
}

func someEvent() store.Event {
	return store.Event{
		ID: 9, EventID: uuid.MustParse("0f8fad5b-d9cb-469f-a165-70867728950e"), Topic: "t", Key: "key", Type: "test.Counted",
		Payload: []byte{2}, OccurredAt: fakeNow.Add(123456 * time.Microsecond),
		Headers: []byte(`{"zone": "b", "traceparent": "00-1-2-01", "millrace-tenant": "acme", "area": "a"}`),
	}
}

func headerText(r *kgo.Record) string {
	var all []string
	for _, h := range r.Headers {
		all = append(all, h.Key+"="+string(h.Value))
	}
	return strings.Join(all, " ")
}

func TestARecordOnTheWire(t *testing.T) {
	r := framed(t, newBench(), someEvent())
	if got := fmt.Sprintf("%s %s %x", r.Topic, r.Key, r.Value); got != "t key 000000000702" {
		t.Error(got)
	}
	want := "ce_id=0f8fad5b-d9cb-469f-a165-70867728950e ce_type=test.Counted ce_source=/s ce_time=2026-01-02T03:04:05.123456Z " +
		"millrace-seq=1 millrace-tenant=acme traceparent=00-1-2-01 area=a zone=b"
	if got := headerText(r); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !r.Timestamp.Equal(someEvent().OccurredAt) || r.Partition != partitionOf(r.Key, 3) {
		t.Errorf("timestamp %v, partition %d", r.Timestamp, r.Partition)
	}
}

func TestCompactHeaders(t *testing.T) {
	e := someEvent()
	e.Headers = nil
	compact := func(c *Config) { c.CompactHeaders = true }
	if got, want := headerText(framed(t, newBench(compact), e)), "ce_id=0f8fad5b-d9cb-469f-a165-70867728950e millrace-seq=1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	e.OccurredAt = fakeNow.AddDate(3, 0, 0) // a timestamp that brokers refuse
	r := framed(t, newBench(compact), e)
	if got := headerText(r); !strings.Contains(got, "ce_time=2029-01-02T03:04:05Z") || !r.Timestamp.Equal(fakeNow) {
		t.Errorf("%v: %s", r.Timestamp, got)
	}
}

// Times that Postgres knows and others do not must not stop the stream.
func TestPromise7StrangeTimesAreSent(t *testing.T) {
	for _, at := range []time.Time{
		time.Date(-4000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(200000, 1, 1, 0, 0, 0, 0, time.UTC), {},
	} {
		e := someEvent()
		e.OccurredAt = at
		if r := framed(t, newBench(), e); !r.Timestamp.Equal(fakeNow) || len(headerText(r)) == 0 {
			t.Errorf("%v: %v", at, r.Timestamp)
		}
		e.Payload, e.Body = nil, []byte(`{}`)
		r := framed(t, newBench(), e)
		if p, err := decodeParked(r.Value); err != nil || p.Reason != ReasonBody {
			t.Errorf("%v: %v", at, err)
		}
	}
}

func TestAParkedEventTooLargeForItsTopicKeepsItsPlace(t *testing.T) {
	e := someEvent()
	e.Payload = make([]byte, maxParkedBytes)
	r := framed(t, newBench(), e)
	p, err := decodeParked(r.Value)
	if err != nil || !p.Omitted || p.Payload != nil || p.Reason != ReasonSize || p.Row != 9 || p.Position != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

// Consumers take no longer key for the name of an entity.
func TestPromise7AKeyThatNoConsumerTakesIsParked(t *testing.T) {
	e := someEvent()
	e.Key = strings.Repeat("k", 8<<10)
	if r := framed(t, newBench(), e); r.Topic != "t" {
		t.Errorf("a key of 8 KiB went to %s", r.Topic)
	}
	e.Key += "k"
	if p, err := decodeParked(framed(t, newBench(), e).Value); err != nil || p.Reason != ReasonKey || !strings.Contains(p.Detail, "8192") {
		t.Errorf("%v", err)
	}
}

// Nothing that a writer can make large makes the parked record too large for its topic.
func TestPromise7WhateverIsTooLargeCanBeParked(t *testing.T) {
	huge := strings.Repeat("x", 2*maxParkedBytes)
	for name, change := range map[string]func(*store.Event){
		"key": func(e *store.Event) { e.Key = huge }, "topic": func(e *store.Event) { e.Topic = huge },
		"type":   func(e *store.Event) { e.Type, e.Key = huge, "" },
		"field":  func(e *store.Event) { e.Payload, e.Body = nil, []byte(`{"n": 1, "`+huge+`": 1}`) },
		"header": func(e *store.Event) { e.Headers = []byte(`{"ce_` + huge + `": ""}`) },
	} {
		b, e := newBench(), someEvent()
		change(&e)
		for position := range int64(2) {
			r := framed(t, b, e)
			p, err := decodeParked(r.Value)
			if err != nil || len(r.Value) > 100_000 || p.Position != position+1 {
				t.Errorf("%s: a record of %d bytes, %v", name, len(r.Value), err)
			}
		}
		if e.Key += "y"; name == "key" && b.framer.lines.blocked(e.Topic, lineKey(e.Key)) {
			t.Error("another long key waits behind this one")
		}
	}
}

func TestOnlyListedTopics(t *testing.T) {
	b := newBench(func(c *Config) {
		c.OnlyListed = true
		c.Topics = map[string]Topic{"other": {}}
	})
	if p, err := decodeParked(framed(t, b, someEvent()).Value); err != nil || p.Reason != ReasonTopic {
		t.Errorf("%+v, %v", p, err)
	}
}

// Whoever may write to the outbox can name topics without end; the cursor must not grow with them.
func TestPromise7TheTopicsThatNobodyConfiguredAreBounded(t *testing.T) {
	b := newBench(func(c *Config) { c.Topics = map[string]Topic{"listed": {}} })
	e := someEvent()
	for n := range maxUnlisted {
		b.cursor.Partitions[fmt.Sprint("topic-", n)] = 1
	}
	p, err := decodeParked(framed(t, b, e).Value)
	if err != nil || p.Reason != ReasonTopic || !strings.Contains(p.Detail, "1000 topics") {
		t.Errorf("%+v, %v", p, err)
	}
	for _, name := range []string{"listed", "topic-7"} {
		if e.Topic = name; framed(t, b, e).Topic != name {
			t.Errorf("an event of %s was parked", name)
		}
	}
}

// Records that were handed out must not move when later ones need room.
func TestSlabsDoNotMove(t *testing.T) {
	b := newBatch(4)
	var kept [][]byte
	for i := range 5000 {
		kept = append(kept, b.text(fmt.Sprintf("text %d", i)), b.decimal(int64(i)))
	}
	kept = append(kept, b.text(strings.Repeat("x", byteSlab+1)))
	for i := range 5000 {
		if string(kept[2*i]) != fmt.Sprintf("text %d", i) || string(kept[2*i+1]) != fmt.Sprint(i) {
			t.Fatalf("%d: %q %q", i, kept[2*i], kept[2*i+1])
		}
	}
	first := b.record()
	first.Topic = "first"
	for range 500 {
		b.record()
	}
	if first.Topic != "first" {
		t.Error("a record moved")
	}
}

func TestSubjects(t *testing.T) {
	for strategy, want := range map[Subjects]string{
		TopicRecordSubjects: "shop.orders-shop.OrderPlaced", TopicSubjects: "shop.orders-value", RecordSubjects: "shop.OrderPlaced",
	} {
		if got := (&schemaIDs{subjects: strategy}).subject("shop.orders", "shop.OrderPlaced"); got != want {
			t.Errorf("%s: %s, want %s", strategy, got, want)
		}
	}
}

func FuzzParseHeaders(f *testing.F) {
	f.Add([]byte(`{"a": "b", "traceparent": "x", "millrace-tenant": "t"}`))
	f.Add([]byte(`{"a": null}`))
	f.Add([]byte(`[1]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		pairs, wrong := parseHeaders(raw)
		if wrong != nil && wrong.detail == "" {
			t.Error("a fault without words")
		}
		for _, p := range pairs {
			if reserved(p.name) {
				t.Errorf("reserved name %q let through", p.name)
			}
		}
	})
}

func FuzzDecodeParked(f *testing.F) {
	e := someEvent()
	value, err := park(&e, faultf(ReasonBody, "x"), 3, fakeNow).encode(maxParkedBytes)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Fuzz(func(t *testing.T, value []byte) {
		if p, err := decodeParked(value); err == nil && p != nil && p.V != 1 {
			t.Error(p)
		}
	})
}

// A topic that nobody configured and the broker refuses is the event's fault; a configured one is the broker's.
func TestPromise7ATopicThatTheBrokerRefuses(t *testing.T) {
	refuse := func(context.Context, string) (int32, error) {
		return 0, fmt.Errorf("make topic: %w", kerr.PolicyViolation)
	}
	b := newBench()
	b.framer.partitions = refuse
	if p, err := decodeParked(framed(t, b, someEvent()).Value); err != nil || p.Reason != ReasonTopic {
		t.Errorf("%+v, %v", p, err)
	}
	b = newBench(func(c *Config) { c.Topics = map[string]Topic{"t": {}} })
	b.framer.partitions = refuse
	e := someEvent()
	e.Fingerprint = b.table.schema.Fingerprint
	if _, err := b.framer.frame(t.Context(), []store.Event{e}, b.cursor.clone()); !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("%v", err)
	}
}
