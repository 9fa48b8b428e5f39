package store

import (
	"slices"
	"testing"
)

func TestWhatIsInFlightIsSeen(t *testing.T) {
	db, conn := newOutbox(t)
	open := begin(t, db)
	var xid uint64
	if err := open.QueryRow(t.Context(), `select pg_current_xact_id()::text::bigint`).Scan(&xid); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `select pg_current_xact_id()`) // or the snapshot's xmax would not be above it
	got, err := LookInFlight(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(got.Xids, xid) || got.Oldest <= 0 {
		t.Errorf("transaction %d is open: %+v", xid, got)
	}
	exec(t, open, `commit`)
	exec(t, conn, `select pg_current_xact_id()`)
	if got, err = LookInFlight(t.Context(), conn); err != nil || slices.Contains(got.Xids, xid) {
		t.Errorf("transaction %d has ended: %+v, %v", xid, got, err)
	}
}
