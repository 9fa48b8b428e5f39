package faults

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// refusals are what a server that is in trouble answers; the relay waits each out.
var refusals = []struct {
	name    string
	code    string
	refused func(statement string) bool
}{
	{"starting up", "57P03", connecting},
	{"too many clients", "53300", connecting},
	{"disk full, whatever is asked", "53100", anyStatement},
	{"disk full, polling", "53100", containing("fresh as materialized")},
	{"disk full, electing", "53100", containing("pg_try_advisory_lock")},
	{"out of memory, polling", "53200", containing("fresh as materialized")},
}

// Promises 1 to 3: PostgreSQL answers that it cannot: the relay waits, says what it waits for, and goes on when it can.
func TestPromise1PostgresRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: []string{"page_size: 20"}})
	p := w.behindProxy()
	r := w.start("relay")
	r.until("to lead", leads)
	for _, c := range refusals {
		w.write(2, 20)
		r.until("to publish", published(w.log.events()))
		said := len(r.process.Output())
		p.refuse(c.code, c.refused)
		p.hangUp()
		r.until("to say what it waits for, "+c.name, says(c.code))
		known := w.log.events() // not before: who leads may publish until the end of the session that it leads by is noticed
		w.write(2, 20)
		p.waitRefused(t, 5) // it tries again and again
		if found := int64(len(w.records(w.topic))); found != known {
			t.Errorf("%s: %d events in the topic, want %d", c.name, found, known)
		}
		if code, text := r.readiness(); code != http.StatusServiceUnavailable || !strings.Contains(text, c.code) {
			t.Errorf("%s: readiness says %d %q, want %s", c.name, code, text, c.code)
		}
		p.serve()
		r.until("to publish again, "+c.name, published(w.log.events()))
		r.until("to say that all is well, "+c.name, func(s report) bool { return leads(s) && s.Reason == "" })
		if lines := r.lines(said); len(lines) > refusalLines {
			t.Errorf("%s: %d lines:\n%s", c.name, len(lines), strings.Join(lines, "\n"))
		}
	}
	w.finish()
}

// refusalLines is how many lines a relay may print from the beginning of a refusal to its end: what the trouble is, that the
// leadership is lost and had again, that it works again.
const refusalLines = 8

// The same when the relay starts for the first time: nothing is published before the first start is on record.
func TestPromise1PostgresRefusesAtTheFirstStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		code    string
		refused func(string) bool
	}{
		{"starting up", "57P03", connecting},
		{"disk full, recording the first start", "53100", containing("insert into \"outbox\".relay")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{})
			p := w.behindProxy()
			p.refuse(c.code, c.refused)
			w.write(2, 20)
			r := w.start("relay")
			r.until("to say what it waits for", says(c.code))
			p.waitRefused(t, 3)
			if s := r.ask(); s.Seq != 0 || leads(s) {
				t.Errorf("it publishes: %+v", s)
			}
			p.serve()
			w.finish()
		})
	}
}

// Promise 1, when the log cannot be flushed: PostgreSQL has committed without waiting for the disk, and cannot write now. Nothing is
// published, and it says why. Then it crashes: what was lost was never published.
func TestPromise1NothingIsPublishedThatCannotBeFlushed(t *testing.T) {
	t.Parallel()
	server := privatePostgres(t)
	c := newCrash(t, server, setup{outbox: []string{"cursor_interval: 1h"}})
	p := c.behindProxy()
	r := c.start("relay")
	c.emit("k")
	r.until("to publish", published(1))
	p.refuse("53100", containing("select pg_logical_emit_message(true"))
	c.stopFlushing()
	c.rollBack()
	c.commitAsync("lost")
	r.until("to say what it waits for", says("53100"))
	p.waitRefused(t, 3)
	c.crash()
	p.serve()
	if !c.reused("k") {
		t.Error("not staged: the transaction id was not given again")
	}
	c.settle()
	c.finish()
}

// readiness is what a probe sees.
func (r *relay) readiness() (code int, text string) {
	r.w.t.Helper()
	resp, err := asking.Get(r.base + "/readyz")
	if err != nil {
		r.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.w.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
