package store

import "testing"

// After a re-anchoring the rows of leaves that were left long ago are new again, and the sequence is past what was lost,
// however many leaves that is.
func TestReanchoringOverTheRing(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	for range 3 {
		fill(t, conn, "k", 4)
		turn(t, conn, Turned)
	}
	open(t, r, Snapshot{}, 100)
	_, last := open(t, r, settled(t, conn), 100)
	if live := r.leaves.live(last); len(live.list) == LeafCount {
		t.Fatal("no leaf is left out")
	}
	leader, ok, err := TryLead(t.Context(), db.Conn(t), "")
	if err != nil || !ok {
		t.Fatalf("lead: %t, %v", ok, err)
	}
	a, err := NewAnchor(t.Context(), db.Conn(t), "", leader, Verdict{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	last, _, rows, err := a.StampUnpublished(t.Context(), func(int64) {})
	if err != nil || rows != 12 {
		t.Fatalf("%d rows are new, %v, want 12", rows, err)
	}
	got, last := open(t, r, last, 100)
	if len(got) != 12 {
		t.Errorf("read %v, want all twelve", got)
	}
	if err := a.DrawTo(t.Context(), 5<<32+7, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	fill(t, conn, "k", 1)
	if got, last = open(t, r, last, 100); len(got) != 1 || got[0]>>32 != 6 {
		t.Errorf("read %v, want one in generation 6", got)
	}
	if turn, err := TurnRing(t.Context(), conn, "", true); err != nil || turn != TurnSettled {
		t.Errorf("%q, %v, want %q", turn, err, TurnSettled)
	}
	fill(t, conn, "k", 2)
	if got, _ = open(t, r, last, 100); len(got) != 2 {
		t.Errorf("read %v, want two", got)
	}
}
