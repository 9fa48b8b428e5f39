package faults

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// Promise 3: a cursor that is missing, or is another's, never means "from the beginning".
func TestPromise3ACursorThatIsNotThereStopsTheRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: shortTimeouts})
	first := w.start("first")
	w.write(2, 10)
	first.until("to publish", published(w.log.events()))

	// Deleted under the running relay, which has something to write.
	w.deleteTopic(w.cursorTopic())
	at := w.log.events()
	w.write(2, 5)
	first.stops("the cursor is missing")
	w.start("again").stops("bring it back")

	compact := "compact"
	w.makeTopic(w.cursorTopic(), 2, map[string]*string{"cleanup.policy": &compact})
	w.start("made anew").stops("deleted and made anew")
	w.nothingNew(at)
}

// The relay is sent to another Kafka cluster, and the other way round: an outbox that is new is given the name of an old one.
func TestPromise3TheCursorOfAnotherClusterOrDatabaseStopsTheRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	first := w.start("first")
	w.write(2, 10)
	first.until("to publish", published(w.log.events()))
	at := w.log.events()
	first.stop()
	w.write(2, 5)

	elsewhere := harness.Kafka(t)
	w.edit(w.kafka.addr, elsewhere.Brokers[0])
	w.start("another cluster").stops("this is Kafka cluster") // and not: the cursor topic is missing here
	w.edit(elsewhere.Brokers[0], w.kafka.addr)

	fresh := newWorld(t, setup{})
	fresh.write(1, 3)
	fresh.edit(fresh.name, w.name)
	fresh.edit(fresh.kafka.addr, w.kafka.addr)
	fresh.name = w.name
	fresh.start("another database").stops("no relay was ever started on this database")

	w.nothingNew(at)
	w.start("last")
	w.finish()
}

// nothingNew fails the test if the events topic holds other than the first events.
func (w *world) nothingNew(first int64) {
	w.t.Helper()
	if found := len(w.records(w.topic)); int64(found) != first {
		w.t.Errorf("%d events in the topic, want %d", found, first)
	}
}

// edit replaces text in millrace.yaml.
func (w *world) edit(old, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, "millrace.yaml")
	raw, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if !strings.Contains(string(raw), old) {
		w.t.Fatalf("no %q in %s", old, raw)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(raw), old, text)), 0o644); err != nil {
		w.t.Fatal(err)
	}
}
