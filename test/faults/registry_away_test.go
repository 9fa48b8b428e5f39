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

// Promise 7: the registry goes away for long while the relay works, by every way in which a server can be away: known schemas go on,
// and one that is new is parked, and published when the registry is back, in the order of its keys.
func TestPromise7TheRegistryIsAwayForLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: []string{"registry_grace: 300ms"}})
	r := w.start("relay")
	w.write(2, 20)
	r.until("to publish", published(w.log.events()))
	old := w.out
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
		fresh := w.writer(stepSchema(w.topic, fmt.Sprintf(`, {"name": "more%d", "type": "string", "default": ""}`, i)))
		w.out, w.onlyAvro = fresh, false
		w.write(2, 20)
		w.emit("behind")
		waiting := w.log.events() - known
		r.until("to park what is new and say what is away, "+c.name, func(s report) bool {
			return leads(s) && s.Parked == waiting && strings.Contains(s.Reason, "registry")
		})
		w.out, w.onlyAvro = old, true
		w.emit("behind") // one of its key waits
		w.emit("alone")
		r.until("to go on, "+c.name, func(s report) bool { return leads(s) && s.Seq == known+1 && s.Parked == waiting+1 })
		end()
		w.untilPublished()
		w.out, w.onlyAvro = fresh, false
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
