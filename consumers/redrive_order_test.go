package consumers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// Promise 2: order. However the letters of a key stand on the topic - written by several owners, copied by somebody from a backup - a
// redrive applies them in the order of their events, each once.
func TestRedriveOfLettersOutOfOrder(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		h := newClinic(r)
		h.add("a", 13, 2, 3, 4)
		h.start(h.config())
		h.caughtUp()
		letters, topic := r.letters(), consumers.DeadLetterTopic(r.name)
		gone := kadm.Offsets{}
		gone.Add(kadm.Offset{Topic: topic, At: int64(len(letters))})
		if resp, err := r.adm.DeleteRecords(t.Context(), gone); err != nil || resp.Error() != nil {
			t.Fatal(err, resp.Error())
		}
		cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for _, i := range []int{3, 1, 0, 2, 1} {
			l := letters[i]
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: l.Key, Value: l.Value, Headers: l.Headers}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		h.mended.Store(true)
		wantOutcome(t, h.ask(h.key("a").Request(consumers.DropNothing))[0], consumers.Done, 4, 0)
		h.settled()
	})
}

// Promise 4: a letter of an event that the position has not passed, as an owner leaves it who died between the two, is not applied by a redrive: its event comes with the next batch.
func TestRedriveLeavesWhatThePositionHasNotPassed(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		h := newClinic(r)
		h.add("a", 13, 2)
		h.start(h.config())
		h.caughtUp()
		ends, err := r.adm.ListEndOffsets(t.Context(), r.topic)
		if err != nil {
			t.Fatal(err)
		}
		end, _ := ends.Lookup(r.topic, 0)
		event := h.added("a", 3)
		letter := &kgo.Record{Topic: consumers.DeadLetterTopic(r.name), Key: event.Key, Value: event.Value, Headers: slices.Clone(event.Headers)}
		for _, header := range r.letters()[1].Headers {
			if header.Key == consumers.HeaderLetterOffset {
				header.Value = fmt.Append(nil, end.Offset)
			}
			if strings.HasPrefix(header.Key, "millrace-dlq-") {
				letter.Headers = append(letter.Headers, header)
			}
		}
		cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := cl.ProduceSync(t.Context(), letter).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if k := h.key("a"); k.Letters != 3 {
			t.Fatalf("a is pending as %+v", k)
		}
		h.mended.Store(true)
		wantOutcome(t, h.ask(h.key("a").Request(consumers.DropNothing))[0], consumers.Done, 2, 0)
		h.sums["a"] += 3
		h.produce(true, event)
		h.caughtUp()
		wantOutcome(t, h.ask(h.key("a").Request(consumers.DropNothing))[0], consumers.Nothing, 0, 0)
		h.settled()
	})
}
