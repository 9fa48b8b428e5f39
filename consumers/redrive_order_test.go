package consumers_test

import (
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
