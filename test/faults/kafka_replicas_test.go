package faults

import (
	"strings"
	"testing"
)

// Promises 1 to 3: too few replicas are in sync, of the events or of the cursor: the relay waits, says what for, and goes on by itself
// when that is mended.
func TestPromise3NotEnoughReplicas(t *testing.T) {
	t.Parallel()
	for _, of := range []string{"events", "cursor"} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{outbox: []string{"page_size: 20"}})
			topic, partitions, policy := w.topic, 3, "delete"
			if of == "cursor" {
				topic, partitions, policy = w.cursorTopic(), 2, "compact"
			}
			w.broker.addAbsent(t)
			w.broker.MakeOnAbsent(t, topic, partitions, "cleanup.policy", policy)
			r := w.start("relay")
			w.write(2, 10)
			r.until("to publish", published(w.log.events()))
			at := w.log.events()
			w.alterTopic(topic, "min.insync.replicas", "2")
			w.write(2, 20)
			refused := r.until("to say what it waits for", func(s report) bool { return strings.Contains(s.Reason, "NOT_ENOUGH_REPLICAS") })
			if refused.Restarts == 0 {
				t.Error("no start from the cursor is counted")
			}
			w.alterTopic(topic, "min.insync.replicas", "1")
			w.untilPublished()
			t.Logf("%d events published before; %d starts from the cursor", at, r.ask().Restarts)
			w.finish()
		})
	}
}

// addAbsent has topics placed on a broker that never comes up; what is not asks for it stays where it was.
func (b *broker) addAbsent(t *testing.T) {
	t.Helper()
	b.absent.Do(func() { b.AddAbsent(t) })
}
