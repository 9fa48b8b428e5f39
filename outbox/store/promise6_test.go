package store

import "testing"

// Promise 6: No write amplification on the application's database. The reader updates and deletes nothing, and between its
// statements it holds no lock and no snapshot: an INSERT never waits for it, wherever in a window it stands.
func TestPromise6NoWriteAmplificationAndNoInsertWaits(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	fill(t, conn, "a", 50)
	w, page, err := r.Open(t.Context(), Snapshot{}, 5)
	if err != nil || !page.More {
		t.Fatalf("a window of one page: %v", err)
	}
	var held, inTransaction int
	if err := conn.QueryRow(t.Context(), `select (select count(*) from pg_locks where pid = $1),
		(select count(*) from pg_stat_activity where pid = $1 and (xact_start is not null or backend_xmin is not null))`,
		r.conn.PgConn().PID()).Scan(&held, &inTransaction); err != nil {
		t.Fatal(err)
	}
	if held != 0 || inTransaction != 0 {
		t.Errorf("in mid-window the reader holds %d locks and %d transactions", held, inTransaction)
	}
	exec(t, conn, "set lock_timeout = '50ms'")
	fill(t, conn, "a", 5) // in mid-window
	last, _ := page.LastID()
	if got := all(t, r, w, page, 5); len(got) != 50 {
		t.Errorf("%d events in the window after id %d", len(got), last)
	}
	flush(t, r, w)
	// A row that was updated has the updater's xmin; one that was locked or is being deleted has an xmax.
	var rows, touched int
	if err := conn.QueryRow(t.Context(), `select count(*), count(*) filter (where xmax::text <> '0'
		or xmin::text <> (xid::text::bigint & 4294967295)::text) from outbox.event`).Scan(&rows, &touched); err != nil {
		t.Fatal(err)
	}
	if rows != 55 || touched != 0 {
		t.Errorf("%d rows, %d of them updated, deleted or locked by somebody", rows, touched)
	}
}
