package faults

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// A topic that is deleted takes its events with it; the relay does not make it again as if nothing had been there. It says so,
// stops, and says how to go on. Then it goes on behind what was published, and never from the beginning.
func TestPromise3ADeletedTopicStopsTheRelay(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(map[bool]string{true: "while it runs", false: "between two runs"}[running], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{outbox: append([]string{"page_size: 20"}, shortTimeouts...)})
			r := w.start("relay")
			w.write(2, 10)
			r.until("to publish", published(w.log.events()))
			if !running {
				r.stop()
			}
			w.deleteTopic(w.topic)
			gone := w.log.events()
			w.write(2, 10)
			if !running {
				r = w.start("second")
			}
			r.stops("a topic has lost partitions")
			if said := r.process.Output(); !strings.Contains(said, "make it again with 3 partitions") {
				t.Errorf("no remedy in %s", said)
			}
			w.makeTopic(w.topic, 3, nil)
			last := w.start("last")
			last.until("to go on", published(w.log.events()))
			if found := w.records(w.topic); int64(len(found)) != w.log.events()-gone {
				t.Errorf("%d events in the new topic: %d were published to the deleted one, %d came after", len(found), gone, w.log.events()-gone)
			}
			w.verifyAfter(gone)
		})
	}
}

// verifyAfter holds a topic that begins after some events against the log.
func (w *world) verifyAfter(gone int64) {
	w.t.Helper()
	all, err := compare(w.log.truth(), w.records(w.topic))
	if err != nil {
		w.t.Fatal(err)
	}
	missing := int64(0)
	for _, v := range all {
		switch {
		case v.Kind == "missing":
			missing++
		case v.Kind != version: // versions go on where they were
			w.t.Error(v)
		}
	}
	if missing != gone {
		w.t.Errorf("%d events are missing, want the %d of the deleted topic", missing, gone)
	}
}

func (w *world) deleteTopic(topic string) {
	w.t.Helper()
	resp, err := w.admin.DeleteTopics(w.t.Context(), topic)
	if err = errors.Join(err, resp.Error()); err != nil {
		w.t.Fatalf("delete %s: %v", topic, err)
	}
	eventually(w.t, topic+" to be gone", func() (bool, string) {
		ends, err := w.admin.ListEndOffsets(w.t.Context(), topic)
		err = errors.Join(err, ends.Error())
		return errors.Is(err, kerr.UnknownTopicOrPartition), errText(err)
	})
}

// makeTopic makes a topic, when one of that name that was deleted is gone.
func (w *world) makeTopic(topic string, partitions int32, configs map[string]*string) {
	w.t.Helper()
	eventually(w.t, "topic "+topic+" to be made", func() (bool, string) {
		resp, err := w.admin.CreateTopic(w.t.Context(), partitions, 1, configs, topic)
		err = errors.Join(err, resp.Err)
		return err == nil, errText(err)
	})
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// alterTopic sets a config of a topic.
func (w *world) alterTopic(topic, name, value string) {
	w.t.Helper()
	resp, err := w.admin.AlterTopicConfigs(w.t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
	if err != nil {
		w.t.Fatalf("set %s of %s: %v", name, topic, err)
	}
	for _, r := range resp {
		if r.Err != nil {
			w.t.Fatalf("set %s of %s: %v", name, topic, r.Err)
		}
	}
}

// The topic takes smaller messages than it did: batches shrink, and an event that does not fit by itself is parked alone.
func TestPromise7MessagesThatAreTooLargeForTheTopic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	r := w.start("relay")
	w.write(2, 10)
	r.until("to publish", published(w.log.events()))
	w.kafka.cut() // so that the next batches are large
	w.write(4, 200)
	w.alterTopic(w.topic, "max.message.bytes", "3000")
	w.kafka.mend()
	w.untilPublished()
	w.verify()
	w.exec(`select outbox.emit('faults.Step', 'big', jsonb_build_object('key', 'big', 'n', 1, 'pad', repeat('x', 5000)))`)
	r.until("to park the event that is too large", func(s report) bool { return leads(s) && s.Parked == 1 })
	w.exec(`delete from outbox.event where key = 'big'`) // it is not in the log
	w.write(2, 20)
	w.finish()
}
