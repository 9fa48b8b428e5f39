package consumers_test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// letters reads a sink's dead-letter topic to its end.
func (r *rig) letters() []*kgo.Record {
	r.t.Helper()
	topic := consumers.DeadLetterTopic(r.name)
	ends, err := r.adm.ListEndOffsets(r.t.Context(), topic)
	if err != nil || ends.Error() != nil {
		r.t.Fatalf("ends of %s: %v %v", topic, err, ends.Error())
	}
	end, _ := ends.Lookup(topic, 0)
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.ConsumeTopics(topic))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	var all []*kgo.Record
	for int64(len(all)) < end.Offset {
		all = append(all, cl.PollFetches(r.t.Context()).Records()...)
	}
	return all
}

func headerOf(r *kgo.Record, key string) string {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// Promise 7: a bad event never stops the stream. It and its key's later events are put aside, in order; everything else goes on.
func TestPoisonIsPutAside(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		good := func(key string, amount int64) *kgo.Record { r.sums[key] += amount; return r.added(key, amount) }
		bad := func(key string, value string) *kgo.Record {
			r.total++
			return r.record(key, []byte(value), r.total)
		}
		first := []*kgo.Record{
			good("a", 1), good("b", 1), good("c", 1), good("d", 1), good("e", 1),
			bad("a", "not framed"), r.added("a", 5), good("b", 2),
			bad("b", "\x00\x00\x00\x03\xe7\x02"), r.added("b", 5),
			bad("c", "\x00\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
			r.added("d", 13), r.added("d", 5), bad("", "\x00\x00\x00\x00\x01\x02"), bad("\xff\xfe", "\x00\x00\x00\x00\x01\x02"), good("e", 7),
		}
		r.produce(true, first...)
		c := start(t, r.config(), r.fold())
		r.caughtUp()
		if err := c.end(); err != nil {
			t.Fatalf("Run: %v", err)
		}
		// Another process finds the marks.
		r.produce(true, r.added("a", 5), good("e", 1), r.added("c", 5))
		start(t, r.config(), r.fold())
		r.caughtUp()
		r.wantSums()

		var got []string
		for _, l := range r.letters() {
			got = append(got, fmt.Sprintf("%s %q %s %s", headerOf(l, consumers.HeaderLetterOffset), l.Key,
				headerOf(l, consumers.HeaderLetterClass), headerOf(l, consumers.HeaderLetterFirst)))
		}
		want := []string{
			`5 "a" poison 5`, `6 "a" quarantined 5`, `8 "b" poison 8`, `9 "b" quarantined 8`, `10 "c" poison 10`, `11 "d" poison 11`,
			`12 "d" quarantined 11`, `13 "" poison 13`, `14 "\xff\xfe" poison 14`, `17 "a" quarantined 5`, `19 "c" quarantined 10`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("dead letters are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A dead letter is the record again, value and headers, and says where it came from and why.
func TestDeadLetterRepeatsTheRecord(t *testing.T) {
	r := fakeRig(t, 1)
	p, err := consumers.NewDeadLetterProducer(r.name, kgo.SeedBrokers(r.brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	ev := consumers.Event{TopicPartition: consumers.TopicPartition{Topic: "shop.orders", Partition: 3}, Offset: 42, Key: "k", Value: []byte("\x00\x01value")}.
		WithHeaders(map[string]string{"ce_id": "1", "millrace-seq": "9", "tenant": "größe"})
	large := ev
	large.Offset, large.Value = 43, bytes.Repeat([]byte("x"), 17<<20)
	for range 2 { // the topic is created once
		err = p.Send(t.Context(), []consumers.DeadLetter{{Event: ev, Class: consumers.LetterPoison, Reason: strings.Repeat("ü", 5000), First: 42}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Send(t.Context(), []consumers.DeadLetter{{Event: large, Class: consumers.LetterQuarantined, First: 42}}); err != nil {
		t.Fatal(err)
	}
	all := r.letters()
	if len(all) != 3 {
		t.Fatalf("%d letters", len(all))
	}
	for key, want := range map[string]string{"ce_id": "1", "millrace-seq": "9", "tenant": "größe", consumers.HeaderLetterTopic: "shop.orders",
		consumers.HeaderLetterPartition: "3", consumers.HeaderLetterOffset: "42", consumers.HeaderLetterFirst: "42",
		consumers.HeaderLetterClass: "poison", consumers.HeaderLetterReason: strings.Repeat("ü", 1000), consumers.HeaderLetterOmitted: ""} {
		if got := headerOf(all[0], key); got != want {
			t.Errorf("header %s is %q, want %q", key, got, want)
		}
	}
	if _, err := time.Parse(time.RFC3339Nano, headerOf(all[0], consumers.HeaderLetterTime)); err != nil {
		t.Error(err)
	}
	if string(all[0].Key) != "k" || string(all[0].Value) != "\x00\x01value" {
		t.Errorf("the letter is %q: %q", all[0].Key, all[0].Value)
	}
	if all[2].Value != nil || headerOf(all[2], consumers.HeaderLetterOmitted) != strconv.Itoa(17<<20) {
		t.Errorf("a value of %d bytes was repeated, omitted says %q", len(all[2].Value), headerOf(all[2], consumers.HeaderLetterOmitted))
	}
}
