package store

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestBacklog(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	behind := func(what string, last, upper *Snapshot, position int64, want int64) time.Time {
		t.Helper()
		got, oldest, err := Backlog(t.Context(), conn, "", last, upper, position)
		if err != nil {
			t.Fatal(err)
		}
		if got != want || oldest.IsZero() != (want == 0) {
			t.Errorf("%s: %d events behind, the oldest of %v; want %d", what, got, oldest, want)
		}
		return oldest
	}
	behind("empty", nil, nil, 0, 0)
	fill(t, conn, "k", 10)
	late := begin(t, db)
	fill(t, late, "late", 5)
	behind("before the first event", nil, nil, 0, 10)
	w, _, err := r.Open(t.Context(), Snapshot{}, 4)
	if err != nil {
		t.Fatal(err)
	}
	first := behind("nothing of the window published", &w.Last, &w.Upper, 0, 10)
	if age := time.Since(first); age < 0 || age > 5*time.Minute {
		t.Errorf("the oldest is of %v", first)
	}
	behind("in mid-window", &w.Last, &w.Upper, 4, 6)
	behind("between windows", &w.Upper, nil, 0, 0)
	exec(t, late, `commit`)
	fill(t, conn, "k", 3)
	behind("in mid-window, with news", &w.Last, &w.Upper, 4, 6+5+3)
	behind("between windows, with news", &w.Upper, nil, 0, 5+3)
	if w, _, err = r.Open(t.Context(), w.Upper, 2); err != nil {
		t.Fatal(err)
	}
	behind("late rows first", &w.Last, &w.Upper, 11, 4+3)
	behind("the last one is left", &w.Last, &w.Upper, 17, 1)

	exec(t, conn, `insert into outbox.event (topic, key, type, schema_fp, payload)
		select 't', 'k', 'x', '\x00000000000000000000000000000000', '' from generate_series(1, $1::int)`, BacklogCap+100)
	behind("more than is counted", &w.Upper, nil, 0, BacklogCap)
	var seqscan string
	if err := conn.QueryRow(t.Context(), `show enable_seqscan`, pgx.QueryExecModeSimpleProtocol).Scan(&seqscan); err != nil || seqscan != "on" {
		t.Errorf("the count leaves enable_seqscan = %s on the caller's connection: %v", seqscan, err)
	}
}
