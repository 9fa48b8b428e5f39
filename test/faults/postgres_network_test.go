package faults

import (
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// Promises 1 to 3 over a network to PostgreSQL that is slow, narrow, or breaks, while writers write. The relay goes on by itself,
// each time.
func TestPromise3ABadNetworkToPostgres(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: []string{"page_size: 20"}})
	r := w.start("relay")
	stop := w.writing(3, 10*time.Millisecond)
	toxic := func(kind, direction string, attributes map[string]any) func() func() {
		return func() func() { return w.postgres.toxic(kind, direction, attributes) }
	}
	for _, c := range []struct {
		name  string
		begin func() (end func())
		// works says that the relay publishes meanwhile, for the fault only slows it down.
		works bool
	}{
		{"slow answers", toxic("latency", downstream, map[string]any{"latency": 100, "jitter": 80}), true},
		{"slow statements", toxic("latency", upstream, map[string]any{"latency": 100, "jitter": 80}), true},
		{"narrow", toxic("bandwidth", downstream, map[string]any{"rate": 60}), true},
		{"in small pieces", toxic("slicer", downstream, map[string]any{"average_size": 64, "size_variation": 32, "delay": 100}), true},
		{"slow to close", toxic("slow_close", downstream, map[string]any{"delay": 1000}), true},
		{"connections that end in the middle of an answer", toxic("limit_data", downstream, map[string]any{"bytes": 3000}), false},
		{"reset by the peer", toxic("reset_peer", downstream, map[string]any{"timeout": 50}), false},
		{"swallowed", func() func() { return w.postgres.swallow() }, false},
		{"refused", func() func() { w.postgres.cut(); return w.postgres.mend }, false},
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
		r.until("to have caught up after "+c.name, published(w.log.events()))
		now := r.ask()
		t.Logf("%s: transactions %d to %d, %d restarts; up to date %v later", c.name, before.T, now.T, now.Restarts-before.Restarts,
			time.Since(began).Round(10*time.Millisecond))
	}
	for range 20 { // every connection is cut, at moments that nobody chose
		time.Sleep(time.Duration(w.rng.Int64N(int64(300 * time.Millisecond))))
		w.postgres.reset()
	}
	stop()
	w.finish()
}

// Promise 3: a leader that cannot reach PostgreSQL any more, though Kafka answers it, loses the lock without its help; the server
// may not even hear that it has gone. When it is back it stands by.
func TestPromise3CutOffFromPostgresForLongerThanTheLease(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"refused", "swallowed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			db := harness.Postgres(t)
			w := newWorld(t, setup{postgres: db.DSN})
			p := w.behindProxy()
			first := w.start("first")
			first.until("to lead", leads)
			other := w.start("other", "DATABASE_URL="+db.DSN) // past the gate
			other.until("to stand by", standby)
			w.write(2, 10)
			first.until("to publish", published(w.log.events()))
			end := w.postgres.mend
			if how == "swallowed" {
				end = p.swallow(t)
			} else {
				w.postgres.cut()
			}
			began := time.Now()
			w.emit("k")
			other.until("to take over", published(w.log.events()))
			t.Logf("%s: the other publishes %v later (expected: under %v)", how, time.Since(began).Round(10*time.Millisecond), takeoverGoal)
			first.until("to say what is away", func(s report) bool { return !leads(s) && s.Reason != "" })
			w.write(2, 20)
			other.until("to go on", published(w.log.events()))
			end()
			first.until("to stand by", standby)
			w.write(2, 20)
			w.finish()
		})
	}
}
