package store

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// idAt is an id as the library would have made it at a time.
func idAt(t *testing.T, at time.Time) uuid.UUID {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}

func dated(t *testing.T, conn *pgx.Conn, id uuid.UUID, at time.Time) {
	t.Helper()
	exec(t, conn, `insert into outbox.event (event_id, topic, key, type, schema_fp, payload, occurred_at)
		values ($1, 't', 'k', 'x', '\x00000000000000000000000000000000', '', $2)`, id.String(), at)
}

// An event is found by its id: near to when the id was made, across leaves, and wherever else it is.
func TestFindRows(t *testing.T) {
	t.Parallel()
	_, conn := newOutbox(t)
	f := finder{conn: conn, table: "outbox.event"}
	if id, err := f.firstSince(t.Context(), time.Now()); err != nil || id > 1 {
		t.Errorf("in an empty table: %d, %v", id, err)
	}
	began := time.Now().Add(-40 * 24 * time.Hour).Truncate(time.Millisecond)
	var ids []uuid.UUID
	for day := range 40 {
		if day == 25 {
			exec(t, conn, `select outbox.turn_ring(true)`)
		}
		at := began.Add(time.Duration(day) * 24 * time.Hour)
		ids = append(ids, idAt(t, at))
		dated(t, conn, ids[day], at)
	}
	for _, day := range []int{0, 10, 24, 25, 30, 39} {
		var row, first int64
		from, err := f.firstSince(t.Context(), began.Add(time.Duration(day)*24*time.Hour-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), `select (select id from outbox.event where event_id = $1), (select min(id) from outbox.event where id >= $2)`,
			ids[day].String(), from).Scan(&row, &first); err != nil || row != first {
			t.Errorf("day %d: from %d on the first row is %d, want %d; %v", day, from, first, row, err)
		}
	}
	strayed, plain := idAt(t, began), uuid.New() // dated by its writer; of version 4
	dated(t, conn, strayed, time.Now())
	dated(t, conn, plain, time.Now())
	for i, id := range append(ids, strayed, plain) {
		found, err := FindRows(t.Context(), conn, "outbox", (*[16]byte)(&id), "", 10)
		if err != nil || len(found) != 1 || found[0].EventID != id {
			t.Errorf("event %d: %+v %v", i, found, err)
		}
	}
	none := idAt(t, began)
	if found, err := FindRows(t.Context(), conn, "outbox", (*[16]byte)(&none), "", 10); err != nil || len(found) != 0 {
		t.Errorf("%+v %v", found, err)
	}
	if found, err := FindRows(t.Context(), conn, "outbox", nil, "k", 3); err != nil || len(found) != 3 || found[0].EventID != plain {
		t.Errorf("%+v %v", found, err)
	}
}
