package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/test/harness"
)

// newOutbox makes an empty outbox on the shared server and returns a connection for writers.
func newOutbox(t *testing.T) (*harness.PostgresDB, *pgx.Conn) {
	t.Helper()
	db := harness.Postgres(t)
	conn := db.Conn(t)
	if _, err := migrate.Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return db, conn
}

func newReader(t *testing.T, db *harness.PostgresDB, options ...ReaderOption) *Reader {
	t.Helper()
	r, err := NewReader(t.Context(), db.Conn(t), "", options...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// begin starts a transaction on a connection of its own; exec and fill take that connection.
func begin(t *testing.T, db *harness.PostgresDB) *pgx.Conn {
	t.Helper()
	conn := db.Conn(t)
	exec(t, conn, `begin`)
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
}

// fill writes n events of the key, in one transaction of its own or in conn's.
func fill(t *testing.T, conn *pgx.Conn, key string, n int) {
	t.Helper()
	exec(t, conn, `insert into outbox.event (topic, key, type, schema_fp, payload)
		select 't', $1, 'x', '\x00000000000000000000000000000000', int8send(g) from generate_series(1, $2::int) g`, key, n)
}

// all reads the rest of a window, page by page, and returns the ids.
func all(t *testing.T, r *Reader, w *Window, page Page, limit int) []int64 {
	t.Helper()
	var ids []int64
	for {
		for _, e := range page.Events {
			ids = append(ids, e.ID)
		}
		if len(page.Events) > limit {
			t.Fatalf("a page of %d events, want at most %d", len(page.Events), limit)
		}
		if !page.More {
			if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
				t.Fatalf("not strictly by id: %v", ids)
			}
			return ids
		}
		after, _ := page.LastID()
		page.Release()
		var err error
		if page, err = r.Page(t.Context(), w, after, limit); err != nil {
			t.Fatal(err)
		}
	}
}

func ids(from, to int64) []int64 {
	var list []int64
	for id := from; id <= to; id++ {
		list = append(list, id)
	}
	return list
}

// open opens a window, reads it to its end and returns its ids and the next `last`.
func open(t *testing.T, r *Reader, last Snapshot, limit int) ([]int64, Snapshot) {
	t.Helper()
	w, page, err := r.Open(t.Context(), last, limit)
	if err != nil {
		t.Fatal(err)
	}
	got := all(t, r, w, page, limit)
	flush(t, r, w)
	next, err := w.Advance()
	if err != nil {
		t.Fatal(err)
	}
	return got, next
}

func flush(t *testing.T, r *Reader, w *Window) {
	t.Helper()
	for range 2 {
		flushed, err := r.Flushed(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		if flushed {
			return
		}
		if err := r.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal(fmt.Errorf("not flushed by a forced flush: %s", FormatLSN(w.FlushLSN)))
}
