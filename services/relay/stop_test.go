package relay_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/services/relay"
)

func (r *rig) admin() *kadm.Client { return kadm.NewClient(r.client()) }

// publishOne runs a relay for one event and stops it.
func (r *rig) publishOne(key string, n, seq int64) {
	r.t.Helper()
	run := r.run(nil)
	r.emit(key, n)
	run.untilSeq(seq)
	if err := run.stop(); err != nil {
		r.t.Fatal(err)
	}
}

// stopsWith runs a relay that must stop by itself with the given error, and publish nothing.
func (r *rig) stopsWith(want error) error {
	r.t.Helper()
	run := r.run(nil)
	err := run.wait()
	if !errors.Is(err, want) {
		r.t.Fatalf("stopped with %v, want %v", err, want)
	}
	s := run.Status()
	if s.State != relay.StateStopped || s.Reason != err.Error() || run.Ready() == nil {
		r.t.Errorf("status %+v, ready %v", s, run.Ready())
	}
	r.t.Logf("stopped: %v", err)
	return err
}

// A cursor topic that was deleted never means "from the beginning".
func TestADeletedCursorTopicStops(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		r.publishOne("k", 1, 1)
		if _, err := r.admin().DeleteTopics(t.Context(), relay.CursorTopic(r.name)); err != nil {
			t.Fatal(err)
		}
		r.emit("k", 2)
		err := r.stopsWith(relay.ErrCursorMissing)
		var stop *relay.StopError
		if !errors.As(err, &stop) || stop.Remedy == "" {
			t.Errorf("no remedy in %v", err)
		}
		r.makeCompacted(relay.CursorTopic(r.name), 2) // nor does one of the same name
		r.stopsWith(relay.ErrCursorForeign)
		if got := len(r.committed(r.topic)); got != 1 {
			t.Errorf("%d events in the topic, want 1", got)
		}
	})
}

func (r *rig) makeCompacted(topic string, partitions int32) {
	r.t.Helper()
	eventually(r.t, "topic "+topic+" to be made", func() error {
		resp, err := r.admin().CreateTopic(r.t.Context(), partitions, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, topic)
		return errors.Join(err, resp.Err)
	})
	eventually(r.t, "topic "+topic+" to be seen", func() error { // the controller makes it, the broker learns of it
		details, err := r.admin().ListTopics(r.t.Context(), topic)
		return errors.Join(err, details[topic].Err)
	})
}

// Parked events and the keys that wait behind them must not be forgotten either.
func TestPromise7ADeletedParkedTopicStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.publishOne("k", 1, 1)
	if _, err := r.admin().DeleteTopics(t.Context(), relay.ParkedTopic(r.name)); err != nil {
		t.Fatal(err)
	}
	r.stopsWith(relay.ErrParkedMissing)
}

// The cursor topic is still the same one, but its log is empty, as after a lost disk without replicas.
func TestALostCursorStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.publishOne("k", 1, 1)
	if _, err := r.admin().DeleteTopics(t.Context(), relay.CursorTopic(r.name)); err != nil {
		t.Fatal(err)
	}
	r.makeCompacted(relay.CursorTopic(r.name), 2)
	details, err := r.admin().ListTopics(t.Context(), relay.CursorTopic(r.name))
	if err != nil {
		t.Fatal(err)
	}
	id := strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(details[relay.CursorTopic(r.name)].ID.String())
	r.exec(`update outbox.relay set cursor_topic_id = $1`, id)
	r.stopsWith(relay.ErrCursorMissing)
}

func (r *rig) started() store.First {
	r.t.Helper()
	conn, err := r.pool.Acquire(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Release()
	first, ok, err := store.Started(r.t.Context(), conn.Conn(), "outbox")
	if err != nil || !ok {
		r.t.Fatal(ok, err)
	}
	return first
}

// A crash after the first start was recorded and before anything was committed is no reason to stop, not even when the
// first transaction was aborted and left its records behind.
func TestACrashInTheFirstTransactionIsNoLostCursor(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		r.emit("k", 1)
		r.killAt(relay.PointFirst, 1)
		r.started()
		r.killAt(relay.PointProduced, 1)
		run := r.run(nil)
		run.untilSeq(1)
		r.checkPublished()
	})
}

func TestAnotherKafkaClusterStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.publishOne("k", 1, 1)
	r.exec(`update outbox.relay set cluster_id = 'another'`)
	r.stopsWith(relay.ErrCursorForeign)
}

// A new outbox that was given the name of an old one does not take its cursor.
func TestTheCursorOfAnotherDatabaseStops(t *testing.T) {
	t.Parallel()
	old := newRig(t, fakeBroker(t), &memoryRegistry{})
	old.publishOne("k", 1, 1)
	fresh := newRig(t, old.brokers, &memoryRegistry{})
	fresh.name = old.name
	fresh.emit("k", 1)
	fresh.stopsWith(relay.ErrCursorForeign)
}

func TestARestoredDatabaseStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.publishOne("k", 1, 1)
	r.exec(`update outbox.event set event_id = gen_random_uuid()`)
	err := r.stopsWith(store.ErrDiverged)
	if !store.NeedsOperator(err) {
		t.Error("store.NeedsOperator is false")
	}
}

func TestADeletedEventsTopicStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.publishOne("k", 1, 1)
	if _, err := r.admin().DeleteTopics(t.Context(), r.topic); err != nil {
		t.Fatal(err)
	}
	r.stopsWith(relay.ErrPartitions)
}

// The count that keys are hashed over does not follow a topic that somebody enlarged.
func TestPromise2AnEnlargedTopicKeepsItsKeysInPlace(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(nil)
		r.emit("k", 1)
		run.untilSeq(1)
		if _, err := r.admin().CreatePartitions(t.Context(), 9, r.topic); err != nil {
			t.Fatal(err)
		}
		for n := int64(2); n < 30; n++ {
			r.emit("k", n)
		}
		if err := run.stop(); err != nil {
			t.Fatal(err)
		}
		run = r.run(nil)
		for i := range int64(30) {
			r.emit("other-"+string(rune('a'+i)), 1)
		}
		run.untilSeq(r.rows())
		for _, rec := range r.committed(r.topic) {
			if rec.Partition > 2 {
				t.Errorf("key %s went to partition %d of the first 3", rec.Key, rec.Partition)
			}
		}
		r.checkPublished()
	})
}

// Topics are made as configured, and for ever unless told otherwise.
func TestTopicsAreMadeAsConfigured(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(func(c *relay.Config) {
			c.Topics[r.topic] = relay.Topic{Partitions: 5, Configs: map[string]string{"segment.bytes": "2000000"}}
		})
		run.until("it to lead", func(s relay.Status) bool { return s.State == relay.StateLeading })
		r.hasConfigs(r.topic, 5, map[string]string{"retention.ms": "-1", "cleanup.policy": "delete", "segment.bytes": "2000000"})
		r.hasConfigs(relay.CursorTopic(r.name), 2, map[string]string{"cleanup.policy": "compact", "segment.bytes": "1048576"})
		r.hasConfigs(relay.ParkedTopic(r.name), 1, map[string]string{"cleanup.policy": "compact"})
	})
}

func (r *rig) hasConfigs(topic string, partitions int, want map[string]string) {
	r.t.Helper()
	details, err := r.admin().ListTopics(r.t.Context(), topic)
	if err != nil || len(details[topic].Partitions) != partitions {
		r.t.Errorf("%s has %d partitions, want %d: %v", topic, len(details[topic].Partitions), partitions, err)
	}
	described, err := r.admin().DescribeTopicConfigs(r.t.Context(), topic)
	if err != nil {
		r.t.Fatal(err)
	}
	resource, err := described.On(topic, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range resource.Configs {
		got[c.Key] = c.MaybeValue()
	}
	for k, v := range want {
		if got[k] != v {
			r.t.Errorf("%s: %s is %q, want %q", topic, k, got[k], v)
		}
	}
}

// A cursor topic that deletes would forget the cursor of a quiet outbox.
func TestACursorTopicThatForgetsStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	policy := "delete"
	if _, err := r.admin().CreateTopic(t.Context(), 2, 1, map[string]*string{"cleanup.policy": &policy}, relay.CursorTopic(r.name)); err != nil {
		t.Fatal(err)
	}
	r.stopsWith(relay.ErrCursorForeign)
}

// Promise 7: nothing that was parked is dropped.
func TestPromise7AParkedTopicThatForgetsStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.publishOne("k", 1, 1)
	policy := "compact,delete"
	alter := []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}}
	if _, err := r.admin().AlterTopicConfigs(t.Context(), alter, relay.ParkedTopic(r.name)); err != nil {
		t.Fatal(err)
	}
	r.stopsWith(relay.ErrParkedForgets)
}

// What somebody else writes to the cursor topic does not become the cursor.
func TestAnUnreadableCursorStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.publishOne("k", 1, 1)
	c := r.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	rec := &kgo.Record{Topic: relay.CursorTopic(r.name), Key: []byte("cursor"), Value: []byte(`{"v":2}`)}
	if err := c.ProduceSync(context.Background(), rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r.stopsWith(relay.ErrCursorUnreadable)
}
