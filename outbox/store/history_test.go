package store

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/test/harness"
)

// pastOf is a cursor that has published everything up to now; its last row is the highest.
func pastOf(t *testing.T, r *Reader, last Snapshot, xid uint64, highest int64) History {
	t.Helper()
	source, err := r.Source(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return History{Source: source, Last: last, Xid: xid, Highest: highest}
}

// Whatever an outbox goes through by itself, its history is the cursor's.
func TestAHistoryThatGoesOn(t *testing.T) {
	db, writer := newOutbox(t)
	r := newReader(t, db)
	check := func(when string, h History) {
		t.Helper()
		if err := r.CheckHistory(t.Context(), h); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("before the first event", pastOf(t, r, Snapshot{}, 0, 0))
	long, rolledBack := begin(t, db), begin(t, db)
	fill(t, long, "long", 2)
	fill(t, writer, "k", 3)
	fill(t, rolledBack, "rolled back", 2)
	got, last := open(t, r, Snapshot{}, 10)
	xid := xidOf(t, writer, got[len(got)-1])
	h := pastOf(t, r, last, xid, got[len(got)-1])
	check("while transactions are at work", h)
	exec(t, rolledBack, `rollback`)
	fill(t, writer, "k", 3)
	fill(t, long, "long", 2)
	exec(t, long, `commit`)
	check("with a backlog, late rows among it", h)
	got, last = open(t, r, last, 10)
	check("when that is published", pastOf(t, r, last, xidOf(t, writer, got[0]), got[len(got)-1]))
	if highest, err := r.HighestID(t.Context()); err != nil || highest != got[len(got)-1] {
		t.Errorf("highest id %d: %v", highest, err)
	}
}

func xidOf(t *testing.T, conn *pgx.Conn, id int64) (xid uint64) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), `select xid from outbox.event where id = $1`, id).Scan(&xid); err != nil {
		t.Fatal(err)
	}
	return xid
}

// A cursor that has seen the end of transactions which are at work, or which write rows after the last published one, is of another
// history.
func TestAHistoryThatBeganAnew(t *testing.T) {
	// Of its own: whatever else is at work on a server has ended, for this cursor.
	db := harness.PostgresServer(t, harness.PostgresOptions{}).Database(t)
	writer := db.Conn(t)
	if _, err := migrate.Up(t.Context(), writer); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, db)
	fill(t, writer, "k", 3)
	got, last := open(t, r, Snapshot{}, 10)
	xid, highest := xidOf(t, writer, got[2]), got[2]
	ahead := Snapshot{Xmin: last.Xmax + 1e6, Xmax: last.Xmax + 1e6} // the cursor's database had come further than this one's
	refused := func(when string, h History) {
		t.Helper()
		err := r.CheckHistory(t.Context(), h)
		var source *SourceError
		if !errors.Is(err, ErrRestored) || !errors.As(err, &source) || source.Remedy == "" || !NeedsOperator(err) {
			t.Errorf("%s: %v", when, err)
		}
		t.Logf("%s: %v", when, err)
	}
	again := begin(t, db)
	exec(t, again, `select pg_current_xact_id()`)
	exec(t, writer, `select pg_current_xact_id()`) // one that ends after it: a snapshot tells of no other
	refused("at work, between windows", pastOf(t, r, ahead, xid, highest))
	within := pastOf(t, r, last, xid, highest)
	within.Upper = ahead
	refused("at work, within a window", within)
	exec(t, again, `rollback`)
	fill(t, writer, "k", 1)
	refused("a row", pastOf(t, r, ahead, xid, highest))
	if err := r.CheckHistory(t.Context(), pastOf(t, r, ahead, xid, highest+1)); err != nil {
		t.Errorf("a row that was published: %v", err)
	}
}
