package faults

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Promises 1 to 3: packets of the connection that polls are dropped from one moment on, and of no other: nobody hangs up, the lock is
// held, Kafka answers. The relay does not lead for ever and say nothing: it says what happened, in its status, its readiness, its
// metrics and its log, and goes on with another connection.
func TestPromise1TheConnectionThatPollsIsLostWithoutAWord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		wanted func(string) bool
		rows   int // written at once: with more than a page there is something to read ahead
	}{
		{"polling", containing("fresh as materialized"), 1},
		{"reading ahead", nth(4, readsPage), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{slow: true, outbox: []string{"page_size: 20", "poll_timeout: 1s", "retry_min: 3s", "retry_max: 3s"}})
			p := w.behindProxy()
			r := w.start("relay")
			w.write(2, 20)
			r.until("to publish", published(w.log.events()))
			before := r.ask()
			come := p.lose(c.wanted)
			w.writeAtOnce(c.rows)
			r.until("to lose its connection", func(report) bool { return closed(come) })
			said := r.until("to say so", says("no answer from Postgres"))
			if !strings.Contains(said.Reason, "poll_timeout") {
				t.Errorf("it says %q, and not which setting that is", said.Reason)
			}
			t.Logf("it says: %s", said.Reason)
			if code, text := r.readiness(); code == http.StatusServiceUnavailable && !strings.Contains(text, "no answer from Postgres") {
				t.Errorf("readiness says %d %q", code, text)
			}
			now := r.until("to go on", published(w.log.events()))
			if now.Restarts == before.Restarts {
				t.Error("no start over is counted")
			}
			if got := r.metric(`millrace_relay_restarts_total{cause="timeout",outbox="` + w.name + `"}`); got == "" || got == "0" {
				t.Errorf("restarts for a timeout: %q", got)
			}
			r.until("to say that all is well", func(s report) bool { return leads(s) && s.Reason == "" })
			if log := r.process.Output(); !strings.Contains(log, "no answer from Postgres") || !strings.Contains(log, "works again") {
				t.Errorf("the log does not tell:\n%s", log)
			}
			w.finish()
		})
	}
}

// readsPage is true for the statements that read a page of a window which one poll does not hold: from the one leaf where its rows are,
// or, if a poll saw their transaction at work, from the table.
func readsPage(statement string) bool {
	return strings.Contains(statement, "event_0 e\n") || strings.Contains(statement, "rows unbounded preceding")
}

// nth is the nth of the statements that are wanted.
func nth(n int, wanted func(string) bool) func(string) bool {
	return func(statement string) bool {
		if wanted(statement) {
			n--
		}
		return n == 0
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// writeAtOnce commits one transaction of so many events of one key.
func (w *world) writeAtOnce(events int) {
	w.t.Helper()
	tx, all := w.open("at once", events)
	if err := tx.Commit(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.log.add(all, nil)
}

// metric returns the value of a series, with its labels in order; empty if there is none.
func (r *relay) metric(series string) string {
	r.w.t.Helper()
	resp, err := asking.Get(r.base + "/metrics")
	if err != nil {
		r.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.w.t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), series+" "); found {
			return value
		}
	}
	return ""
}

// A stranger locks the outbox for longer than a poll may take. The relay says what it waits for, leaves no statement behind in the
// queue for the lock, and goes on when the lock is gone.
func TestAPollBehindALockForTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: []string{"poll_timeout: 1s"}})
	r := w.start("relay")
	w.write(2, 20)
	r.until("to publish", published(w.log.events()))
	lock, _ := w.open("other", 0)
	w.mustRun(lock, `lock table outbox.event in access exclusive mode`)
	said := r.until("to say what it waits for", says("poll_timeout"))
	if !strings.Contains(said.Reason, "lock") || !strings.Contains(said.Reason, "57014") {
		t.Errorf("it says %q", said.Reason)
	}
	eventually(t, "one poll at most to wait behind the lock", func() (bool, string) {
		n := 0
		for _, s := range w.sessions() {
			if s.role == "poll" {
				n++
			}
		}
		return n <= 1, fmt.Sprint(n)
	})
	w.mustRun(lock, `rollback`)
	w.write(2, 20)
	r.until("to go on", published(w.log.events()))
	r.until("to say that all is well", func(s report) bool { return leads(s) && s.Reason == "" })
	w.finish()
}
