package relay_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/relay"
)

// seqs are the versions in a topic, in its order.
func (r *rig) seqs(topic string) (all []int64) {
	r.t.Helper()
	for _, rec := range r.committed(topic) {
		seq, err := strconv.ParseInt(headers(rec)["millrace-seq"], 10, 64)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, seq)
	}
	return all
}

// Sinks skip a version that is not above the one they have: an outbox that follows another on the same topic goes on from it.
func TestPromise1ANewOutboxGoesOnFromWhatTheTopicsHold(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, old, fresh *rig) {
		for n := range int64(3) {
			old.publishOne("k", n+1, n+1)
		}
		fresh.topic = old.topic
		fresh.out = fresh.writer(countedSchema(old.topic))
		run := fresh.run(nil)
		run.until("it to lead", func(s relay.Status) bool { return s.State == relay.StateLeading && s.Seq == 3 })
		fresh.emit("k", 1)
		run.untilSeq(4)
		if err := run.stop(); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(fresh.seqs(old.topic)); got != "[1 2 3 4]" {
			t.Errorf("versions of the key: %s", got)
		}
	}
	t.Run("in-process", func(t *testing.T) {
		t.Parallel()
		old := newRig(t, fakeBroker(t), &memoryRegistry{})
		test(t, old, newRig(t, old.brokers, &memoryRegistry{}))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		test(t, realRig(t), realRig(t))
	})
}

// The same holds for a topic that is used for the first time later on. Records of others, and versions that no relay writes,
// are passed over.
func TestPromise1ATopicUsedForTheFirstTimeIsLookedAt(t *testing.T) {
	t.Parallel()
	old := newRig(t, fakeBroker(t), &memoryRegistry{})
	for n := range int64(3) {
		old.publishOne("k", n+1, n+1)
	}
	c := old.client()
	for range 300 {
		if err := c.ProduceSync(t.Context(), &kgo.Record{
			Topic: old.topic, Key: []byte("k"), Value: []byte("another's"),
			Headers: []kgo.RecordHeader{{Key: "millrace-seq", Value: []byte("9223372036854775807")}},
		}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	fresh := newRig(t, old.brokers, &memoryRegistry{})
	run := fresh.run(nil)
	fresh.emit("k", 1)
	run.untilSeq(1)
	fresh.row(old.topic, "k", fresh.fingerprint(), nil, `{"key": "k", "n": 2}`, nil)
	run.untilSeq(2)
	if s := run.Status(); s.Seq != 4 {
		t.Errorf("the event has version %d, want 4", s.Seq)
	}
	fresh.emit("k", 3)
	run.untilSeq(5)
}
