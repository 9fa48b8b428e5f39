package faults

import (
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// Promises 1 to 3: PostgreSQL is stopped in order, stopped at once, and killed, under writers and a relay at work.
func TestPromise1PostgresRestarts(t *testing.T) {
	t.Parallel()
	server := privatePostgres(t)
	w := newWorld(t, setup{postgres: server.Database(t).DSN, mortal: true, outbox: []string{"page_size: 20"}})
	r := w.start("relay")
	stop := w.writing(3, 5*time.Millisecond)
	for _, c := range []struct {
		name string
		end  func(*harness.PostgresProcess)
	}{
		{"stopped in order", func(s *harness.PostgresProcess) { s.Stop(t) }},
		{"stopped at once", func(s *harness.PostgresProcess) { s.CrashStop(t) }},
		{"killed", func(s *harness.PostgresProcess) { s.Kill(t) }},
		{"stopped at once, again", func(s *harness.PostgresProcess) { s.CrashStop(t) }},
	} {
		before := r.until("to lead", leads)
		before = r.until("to be at work", func(s report) bool { return leads(s) && s.T > before.T+10 })
		time.Sleep(time.Duration(w.rng.Int64N(int64(300 * time.Millisecond)))) // the moment is to be random
		c.end(server)
		r.until("to say what is away", says("connect"))
		server.Start(t)
		began := time.Now()
		r.until("to publish again", func(s report) bool { return leads(s) && s.T > before.T && s.Reason == "" })
		t.Logf("%s: publishes %v after the server's start", c.name, time.Since(began).Round(10*time.Millisecond))
	}
	stop()
	w.settle()
	w.finish()
}

// settle asks the table which of those commits happened that nobody knows about.
func (w *world) settle() {
	w.t.Helper()
	if err := w.log.settle(w.t.Context(), w); err != nil {
		w.t.Fatal(err)
	}
}
