package faults

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The registry is away when the relay starts for the first time: nothing can be published yet, nothing is lost, and everything comes
// in order when it is back. It is away when the next relay starts: what it has given out before is known.
func TestTheRegistryIsAwayAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.registry.cut()
	first := w.start("first")
	w.write(2, 20)
	first.until("to say what is away", func(s report) bool { return strings.Contains(s.Reason, "registry") })
	if found := len(w.records(w.topic)); found != 0 {
		t.Errorf("%d events were published without a schema id", found)
	}
	w.registry.mend()
	first.until("to publish", published(w.log.events()))
	first.stop()

	w.registry.cut()
	second := w.start("second")
	w.write(2, 20)
	second.until("to publish what it knows", published(w.log.events()))
	if s := second.ask(); !strings.Contains(s.Reason, "registry") {
		t.Errorf("it does not say that the registry is away: %+v", s)
	}
	w.registry.mend()
	w.finish()
}

// The registry goes away for long while the relay works, by every way in which a server can be away: known schemas go on, and one
// that is new is published when it is back, in the order of its keys.
func TestTheRegistryIsAwayForLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	r := w.start("relay")
	w.write(2, 20)
	r.until("to publish", published(w.log.events()))
	for i, c := range []struct {
		name  string
		begin func() (end func())
	}{
		{"refused", func() func() { w.registry.cut(); return w.registry.mend }},
		{"swallowed", w.registry.swallow},
		{"reset", func() func() { return w.registry.toxic("reset_peer", downstream, map[string]any{"timeout": 0}) }},
		{"broken off", func() func() { return w.registry.toxic("limit_data", downstream, map[string]any{"bytes": 40}) }},
	} {
		end := c.begin()
		w.write(2, 20)
		r.until("to publish what it knows, "+c.name, published(w.log.events()))
		known := w.log.events()
		w.out = w.writer(stepSchema(w.topic, fmt.Sprintf(`, {"name": "more%d", "type": "string", "default": ""}`, i)))
		w.write(2, 20)
		r.until("to say what is away, "+c.name, func(s report) bool { return strings.Contains(s.Reason, "registry") })
		if found := int64(len(w.records(w.topic))); found != known {
			t.Errorf("%d events in the topic, want the %d whose schema is known", found, known)
		}
		end()
		w.untilPublished()
	}
	w.finish()
}

// A schema that the registry refuses: its events are parked, and everything else goes on.
func TestPromise7ASchemaThatTheRegistryRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	r := w.start("relay")
	w.write(2, 20)
	r.until("to publish", published(w.log.events()))
	w.setCompatibility(w.topic+"-faults.Step", "FULL")
	old := w.out
	w.writer(stepSchema(w.topic, `, {"name": "needed", "type": "string"}`)) // without a default: readers of old events cannot do with it
	w.exec(`select outbox.emit('faults.Step', 'refused', jsonb_build_object('key', 'refused', 'n', 1, 'needed', 'x'))`)
	r.until("to park it", func(s report) bool { return leads(s) && s.Parked == 1 })
	w.exec(`delete from outbox.event where key = 'refused'`) // it is not in the log
	w.out, w.onlyAvro = old, true
	w.write(2, 20)
	w.finish()
	if s := strings.Join(r.lines(0), "\n"); !strings.Contains(s, "reason=refused") {
		t.Errorf("it does not say why:\n%s", s)
	}
}

func (w *world) setCompatibility(subject, level string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPut, w.registryURL+"/config/"+subject,
		bytes.NewReader(fmt.Appendf(nil, `{"compatibility": %q}`, level)))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	resp, err := asking.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("set the compatibility of %s: %s", subject, resp.Status)
	}
}
