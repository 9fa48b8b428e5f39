package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/outboxtest"
)

// Promise 1: an event is there if and only if its transaction commits.
func TestPromise1RollbackLeavesNothing(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	tx := begin(t, pool)
	must(t, out.Write(t.Context(), tx, lent("b-1"), lentRecord("b-2")))
	outboxtest.Require(t, pool) // nobody else sees it before the commit
	must(t, tx.Rollback(t.Context()))
	outboxtest.Require(t, pool)

	tx = begin(t, pool)
	must(t, out.Write(t.Context(), tx, lent("b-1")))
	must(t, tx.Commit(t.Context()))
	outboxtest.Require(t, pool, lent("b-1"))
}

// Promise 1, with savepoints: what is rolled back to a savepoint is gone, the rest stays, and all rows carry the xid
// of the whole transaction, by which the relay judges them.
func TestPromise1Savepoints(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	tx := begin(t, pool)
	must(t, out.Write(t.Context(), tx, lent("b-1")))
	lost := begin(t, tx)
	must(t, out.Write(t.Context(), lost, lent("b-2")))
	must(t, lost.Rollback(t.Context()))
	kept := begin(t, tx)
	must(t, out.Write(t.Context(), kept, lent("b-3")))
	must(t, kept.Commit(t.Context()))
	must(t, tx.Commit(t.Context()))
	outboxtest.Require(t, pool, lent("b-1"), lent("b-3"))
	var xids int
	must(t, pool.QueryRow(t.Context(), "select count(distinct xid) from outbox.event").Scan(&xids))
	if xids != 1 {
		t.Errorf("the rows carry %d xids, want the transaction's one", xids)
	}
}

func TestWriteSQLByDifferentDrivers(t *testing.T) {
	t.Parallel()
	db, pool := migrated(t)
	out := newOutbox(t, pool)
	for _, driver := range []string{"pgx", "postgres"} {
		for _, n := range []int{1, 2, 8, 9, 40} {
			_, err := pool.Exec(t.Context(), "truncate outbox.event")
			must(t, err)
			sqlDB := openSQL(t, driver, db)
			tx, err := sqlDB.BeginTx(t.Context(), nil)
			must(t, err)
			events := someEvents(n)
			must(t, out.WriteSQL(t.Context(), tx, events...))
			must(t, outbox.LockKeySQL(t.Context(), tx, "library.books", "b-1", "b-2"))
			outboxtest.Require(t, tx, events...)
			must(t, tx.Commit())
			outboxtest.Require(t, sqlDB, events...)
		}
	}
}

// PgBouncer in transaction mode has no named prepared statements: every way in which pgx can send a query must do.
func TestWriteInEveryQueryMode(t *testing.T) {
	t.Parallel()
	db, pool := migrated(t)
	out := newOutbox(t, pool)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		cfg, err := pgx.ParseConfig(db.DSN)
		must(t, err)
		cfg.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		must(t, err)
		if _, err := outbox.New(t.Context(), conn, library(t)); err != nil {
			t.Errorf("%v: New: %v", mode, err)
		}
		for _, n := range []int{1, 5, 30} {
			tx := begin(t, conn)
			events := someEvents(n)
			must(t, outbox.LockKey(t.Context(), tx, "library.books", "b-0"))
			if err := out.Write(t.Context(), tx, events...); err != nil {
				t.Fatalf("%v, %d events: %v", mode, n, err)
			}
			outboxtest.Require(t, tx, events...)
			must(t, tx.Rollback(t.Context()))
		}
		must(t, conn.Close(t.Context()))
	}
}

// someEvents makes events that differ in everything that may trip a driver.
func someEvents(n int) []outbox.Event {
	events := make([]outbox.Event, n)
	for i := range events {
		e := outbox.Envelope{Event: lent(fmt.Sprintf(`b-%d "{}," \ 'ü€😀' NULL`, i)), ID: outbox.NewID()}
		if i%2 == 0 {
			e.Headers = map[string]string{"traceparent": fmt.Sprintf(`00-"%d"-\%d`, i, i), "note": "<ä> & \n"}
			e.OccurredAt = time.Date(2001, 2, 3, 4, 5, 6, 123456000+i*1000, time.FixedZone("", 5400))
		}
		if i%3 == 0 {
			e.Topic = "elsewhere"
		}
		events[i] = e
	}
	return events
}

// Promise 2: ids are drawn in the order of the events given, also when these are more than fit one statement.
func TestPromise2IDsFollowTheOrderOfTheCall(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	tx := begin(t, pool)
	want := 0
	for _, n := range []int{1, 3, 8, 9, 100, 5001} {
		events := make([]outbox.Event, n)
		for i := range events {
			events[i] = outbox.Record{Type: "library.ShelfMoved", Key: "k", Fields: map[string]any{"room": "north", "shelf": want + i}}
		}
		must(t, out.Write(t.Context(), tx, events...))
		want += n
	}
	got := outboxtest.Events(t, tx)
	if len(got) != want {
		t.Fatalf("%d events, want %d", len(got), want)
	}
	for i, e := range got {
		if e.Fields["shelf"] != int64(i) {
			t.Fatalf("place %d holds event %v", i, e.Fields["shelf"])
		}
	}
}

func TestWriteLargeEventsInSeveralStatements(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	tx := begin(t, pool)
	events := make([]outbox.Event, 20) // 18 MB together
	for i := range events {
		text := strings.Repeat(string(rune('a'+i)), 900<<10)
		events[i] = outbox.Envelope{Event: Remark{Text: text}, Key: "k", Topic: "t"}
	}
	must(t, out.Write(t.Context(), tx, events...))
	outboxtest.Require(t, tx, events...)
}

func TestWhatAnEventGetsByDefault(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	tx := begin(t, pool)
	must(t, out.Write(t.Context(), tx, lentRecord("b-1"), outbox.Envelope{Event: &Remark{Text: "x"}, Topic: "remarks"}))
	got := outboxtest.Events(t, tx)
	book, remark := got[0], got[1]
	if book.Topic != "library.books" || book.Key != "b-1" || book.Headers != nil {
		t.Errorf("book: %+v", book)
	}
	if book.Fields["copies"] != int64(1) || book.Fields["note"] != nil || book.Fields["fee"].(*big.Rat).Sign() != 0 {
		t.Errorf("defaults: %+v", book.Fields)
	}
	if remark.Topic != "remarks" || remark.Key != "remark-x" {
		t.Errorf("remark: %+v", remark)
	}
	if book.ID == remark.ID || uuid.UUID(book.ID).Version() != 7 || uuid.UUID(book.ID).Variant() != uuid.RFC4122 {
		t.Errorf("ids %x, %x", book.ID, remark.ID)
	}
	if age := time.Since(book.OccurredAt); age < -time.Minute || age > time.Minute {
		t.Errorf("occurred %v ago", age)
	}
}

func TestWhatAnEventGives(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	tx := begin(t, pool)
	r := lentRecord("b-1")
	r.Key, r.Topic, r.ID = "other", "other.topic", uuid.MustParse("0190f3c0-0000-7000-8000-00000000abcd")
	r.OccurredAt = time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	r.Headers = map[string]string{outbox.HeaderTenant: "acme", "x.user_id-1": "ünï \" code"}
	must(t, out.Write(t.Context(), tx, r, &r))
	outboxtest.Require(t, tx, r, r)
	if h := outboxtest.Events(t, tx)[0].Headers; len(h) != 2 {
		t.Errorf("headers %v", h)
	}
}

// The key is the same text, in whatever Go type its field came.
func TestKeysFromFields(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	id := uuid.MustParse("0190F3C0-0000-7000-8000-00000000ABCD")
	member := func(v any) outbox.Record {
		return outbox.Record{Type: "library.MemberJoined", Fields: map[string]any{"name": "n", "member_id": v}}
	}
	shelf := func(v any) outbox.Record {
		return outbox.Record{Type: "library.ShelfMoved", Fields: map[string]any{"room": "north", "shelf": v}}
	}
	type Shelf int16
	for _, c := range []struct {
		event outbox.Record
		want  string
	}{
		{member(id), "0190f3c0-0000-7000-8000-00000000abcd"},
		{member([16]byte(id)), "0190f3c0-0000-7000-8000-00000000abcd"},
		{member("0190F3C0-0000-7000-8000-00000000ABCD"), "0190f3c0-0000-7000-8000-00000000abcd"},
		{shelf(12), "12"},
		{shelf(Shelf(-12)), "-12"},
		{shelf(int64(1) << 62), "4611686018427387904"},
		{shelf(float64(12)), "12"},
		{outbox.Record{Type: "library.RoomClosed", Fields: map[string]any{"room": "south"}}, "south"},
	} {
		tx := begin(t, pool)
		must(t, out.Write(t.Context(), tx, c.event))
		if got := outboxtest.Events(t, tx)[0].Key; got != c.want {
			t.Errorf("key of %v: %q, want %q", c.event.Fields, got, c.want)
		}
		must(t, tx.Rollback(t.Context()))
	}
}

type contextKey struct{}

func TestHeadersFromTheContext(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	calls := 0
	out := newOutbox(t, pool, outbox.WithHeaders(func(ctx context.Context) map[string]string {
		calls++
		parent, _ := ctx.Value(contextKey{}).(string)
		if parent == "" {
			return nil
		}
		return map[string]string{"traceparent": parent, "user": "u-1"}
	}))
	ctx := context.WithValue(t.Context(), contextKey{}, "00-ab-cd-01")
	tx := begin(t, pool)
	must(t, out.Write(ctx, tx, lent("b-1"), outbox.Envelope{Event: lent("b-2"), Headers: map[string]string{"user": "u-2"}}))
	must(t, out.Write(t.Context(), tx, lent("b-3")))
	got := outboxtest.Events(t, tx)
	for i, want := range []map[string]string{{"traceparent": "00-ab-cd-01", "user": "u-1"}, {"traceparent": "00-ab-cd-01", "user": "u-2"}, nil} {
		if fmt.Sprint(got[i].Headers) != fmt.Sprint(want) {
			t.Errorf("event %d has headers %v, want %v", i, got[i].Headers, want)
		}
	}
	if calls != 2 {
		t.Errorf("the hook was called %d times for 2 writes", calls)
	}
}

type recorder []outbox.WriteInfo

func (r *recorder) ObserveWrite(_ context.Context, w outbox.WriteInfo) { *r = append(*r, w) }

func TestObserver(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	var seen recorder
	out := newOutbox(t, pool, outbox.WithObserver(&seen))
	tx := begin(t, pool)
	must(t, out.Write(t.Context(), tx))
	must(t, out.Write(t.Context(), tx, lent("b-1"), lent("b-2")))
	refused := out.Write(t.Context(), tx, lentRecord(""))
	if len(seen) != 2 {
		t.Fatalf("observed %d writes, want 2: one without events is none", len(seen))
	}
	if w := seen[0]; len(w.Events) != 2 || w.Err != nil || w.Duration <= 0 || w.Events[1].Key != "b-2" || w.Events[0].Bytes == 0 || w.Events[0].Topic != "library.books" {
		t.Errorf("observed %+v", w)
	}
	if w := seen[1]; len(w.Events) != 0 || !errors.Is(w.Err, refused) {
		t.Errorf("observed %+v", w)
	}
}

func TestWriteAfterTheEndOfTheTransaction(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	tx := begin(t, pool)
	must(t, tx.Commit(t.Context()))
	if err := out.Write(t.Context(), tx, lent("b-1")); !errors.Is(err, pgx.ErrTxClosed) || outbox.Refused(err) {
		t.Errorf("got %v, want pgx.ErrTxClosed", err)
	}
	if err := out.Write(t.Context(), nil, lent("b-1")); err == nil {
		t.Error("a nil transaction was accepted")
	}
	if err := out.WriteSQL(t.Context(), nil, lent("b-1")); err == nil {
		t.Error("a nil *sql.Tx was accepted")
	}
}

// Promise 2: writers that take turns by LockKey commit in the order of their ids, in Go and in SQL alike.
func TestPromise2LockKeySerialisesWriters(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	holder := begin(t, pool)
	must(t, outbox.LockKey(t.Context(), holder, "library.books", "b-2", "b-1", "b-1"))
	for _, c := range []struct {
		name string
		lock func(tx pgx.Tx) error
		wait bool
	}{
		{"the key", func(tx pgx.Tx) error { return outbox.LockKey(t.Context(), tx, "library.books", "b-1") }, true},
		{"the key in SQL", func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "select outbox.lock_key('library.books', 'b-2')")
			return err
		}, true},
		{"another key", func(tx pgx.Tx) error { return outbox.LockKey(t.Context(), tx, "library.books", "b-3") }, false},
		{"another topic", func(tx pgx.Tx) error { return outbox.LockKey(t.Context(), tx, "library.book", "sb-1") }, false},
		{"nothing", func(tx pgx.Tx) error { return outbox.LockKey(t.Context(), tx, "library.books") }, false},
	} {
		tx := begin(t, pool)
		_, err := tx.Exec(t.Context(), "set local lock_timeout = '50ms'")
		must(t, err)
		if waited := sqlState(c.lock(tx)) == "55P03"; waited != c.wait {
			t.Errorf("%s: waited %v, want %v", c.name, waited, c.wait)
		}
		must(t, tx.Rollback(t.Context()))
	}
	must(t, holder.Commit(t.Context()))
	must(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return outbox.LockKey(t.Context(), tx, "library.books", "b-1") }))

	if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if err := outbox.LockKey(t.Context(), tx, "t", "a\x00b"); err == nil {
			t.Error("a key with a NUL byte was accepted")
		}
		_, err := tx.Exec(t.Context(), "select 1")
		return err
	}); err != nil {
		t.Errorf("the transaction did not survive a bad key: %v", err)
	}
}
