package faults

import (
	"testing"
	"time"
)

// Promises 1 to 3 over a network to Kafka that is slow, narrow, or breaks, while writers write. The relay goes on by itself, each
// time.
func TestPromise3ABadNetworkToKafka(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: append([]string{"page_size: 20"}, shortTimeouts...)})
	r := w.start("relay")
	stop := w.writing(3, 10*time.Millisecond)
	toxic := func(kind, direction string, attributes map[string]any) func() func() {
		return func() func() { return w.kafka.toxic(kind, direction, attributes) }
	}
	for _, c := range []struct {
		name  string
		begin func() (end func())
		// works says that the relay publishes meanwhile, for the fault only slows it down.
		works bool
	}{
		{"slow answers", toxic("latency", downstream, map[string]any{"latency": 100, "jitter": 80}), true},
		{"slow requests", toxic("latency", upstream, map[string]any{"latency": 100, "jitter": 80}), true},
		{"narrow", toxic("bandwidth", upstream, map[string]any{"rate": 60}), true},
		{"in small pieces", toxic("slicer", downstream, map[string]any{"average_size": 16, "size_variation": 8, "delay": 100}), true},
		{"slow to close", toxic("slow_close", downstream, map[string]any{"delay": 1000}), true},
		{"reset by the peer", toxic("reset_peer", downstream, map[string]any{"timeout": 50}), false},
		{"connections that end in the middle of an answer", toxic("limit_data", downstream, map[string]any{"bytes": 3000}), true},
		{"swallowed", func() func() { return w.kafka.swallow() }, false},
		{"refused", func() func() { w.kafka.cut(); return w.kafka.mend }, false},
	} {
		before := r.until("to publish", leads)
		end := c.begin()
		if c.works {
			r.until("to publish, "+c.name, func(s report) bool { return leads(s) && s.T > before.T+4 })
		} else {
			r.until("to notice, "+c.name, func(s report) bool { return s.Restarts > before.Restarts || s.Reason != "" })
		}
		end()
		began := time.Now()
		at := w.log.events()
		r.until("to have caught up after "+c.name, published(at))
		now := r.ask()
		t.Logf("%s: transactions %d to %d, %d restarts; up to date %v later", c.name, before.T, now.T, now.Restarts-before.Restarts,
			time.Since(began).Round(10*time.Millisecond))
	}
	// Every connection is cut again and again, at moments that nobody chose.
	for range 20 {
		time.Sleep(time.Duration(w.rng.Int64N(int64(300 * time.Millisecond))))
		w.kafka.reset()
	}
	stop()
	w.finish()
}
