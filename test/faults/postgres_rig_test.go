package faults

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/test/harness"
)

// privatePostgres is a server of this test alone, on which nobody but writers and relays draws transaction ids or writes WAL.
func privatePostgres(t *testing.T) *harness.PostgresProcess {
	t.Helper()
	return harness.PostgresServer(t, harness.PostgresOptions{Settings: map[string]string{
		"autovacuum": "off", "bgwriter_lru_maxpages": "0", "shared_buffers": "32MB", "max_prepared_transactions": "4",
	}})
}

// session is one of a relay's on the server.
type session struct {
	role string // what it is for: "lead", "poll", "watch", ...
	pid  int
}

// sessions are those of the outbox's relays.
func (w *world) sessions() []session {
	w.t.Helper()
	prefix := "millrace relay " + w.name + " "
	rows, err := w.pool.Query(w.t.Context(), `select application_name, pid from pg_stat_activity where starts_with(application_name, $1) order by 1, 2`, prefix)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []session
	var s session
	_, err = pgx.ForEachRow(rows, []any{&s.role, &s.pid}, func() error {
		all = append(all, session{strings.TrimPrefix(s.role, prefix), s.pid})
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// session waits until the relay has one for the role that is not the given one.
func (w *world) session(role string, other int) (pid int) {
	w.t.Helper()
	eventually(w.t, "a session to "+role, func() (bool, string) {
		for _, s := range w.sessions() {
			if s.role == role && s.pid != other {
				pid = s.pid
				return true, ""
			}
		}
		return false, ""
	})
	return pid
}

// terminate ends a session; that it has ended already is no error.
func (w *world) terminate(s session) {
	w.t.Helper()
	w.exec(`select pg_terminate_backend($1)`, s.pid)
}

// polls waits until the relay has polled so often, each time from beginning to end.
func (w *world) polls(times int) {
	w.t.Helper()
	for range times {
		var since time.Time
		if err := w.pool.QueryRow(w.t.Context(), `select clock_timestamp()`).Scan(&since); err != nil {
			w.t.Fatal(err)
		}
		eventually(w.t, "a poll", func() (bool, string) {
			var polled bool
			err := w.pool.QueryRow(w.t.Context(), `select exists (select from pg_stat_activity
				where application_name = $1 and query_start > $2 and state = 'idle')`, "millrace relay "+w.name+" poll", since).Scan(&polled)
			return err == nil && polled, ""
		})
	}
}

// connect opens a connection past the gate, for whoever holds a transaction open.
func (w *world) connect() *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.ConnectConfig(w.t.Context(), w.pool.Config().ConnConfig.Copy())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// open begins a transaction and writes so many events of a key in it. They are not in the log: whoever commits adds them.
func (w *world) open(key string, events int) (pgx.Tx, []event) {
	w.t.Helper()
	tx, err := w.connect().Begin(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var all []event
	for range events {
		e, err := w.step(w.t.Context(), tx, key, false)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, e)
	}
	return tx, all
}

// mustRun runs a statement in a transaction.
func (w *world) mustRun(tx pgx.Tx, sql string) {
	w.t.Helper()
	if _, err := tx.Exec(w.t.Context(), sql); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// as returns the URL of a database for another user.
func as(t *testing.T, dsn, user string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(user)
	return u.String()
}

// says is wanted when the relay says the text, as the reason why it waits.
func says(text string) func(report) bool {
	return func(s report) bool { return strings.Contains(s.Reason, text) }
}
