package outbox_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/outboxtest"
)

func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

const emit = "select outbox.emit($1, $2, $3::jsonb, $4::jsonb)"

// A program in another language writes the same event as one that uses the library.
func TestEmitWritesWhatWriteWrites(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	tx := begin(t, pool)
	for _, c := range []struct {
		kind string
		key  any
		body string
	}{
		{"library.BookLent", nil, `{"book_id": "b-1", "member_id": "m-1", "due": "2025-03-14", "fee": "2.50", "note": "in \"haste\" 😀"}`},
		{"library.BookLent", "other", `{"book_id": "b-1", "member_id": "m-1", "due": "2025-03-14", "note": null, "copies": 3}`},
		{"library.ShelfMoved", nil, `{"room": "south", "shelf": 9223372036854775807, "weight": -9223372036854775808}`},
		{"library.ShelfMoved", nil, `{"room": "south", "shelf": 1.2e1}`},
		{"library.MemberJoined", nil, `{"name": "n", "member_id": "0190F3C0-0000-7000-8000-00000000ABCD", "tags": ["a", "b"]}`},
		{"library.RoomClosed", nil, `{"room": "north"}`},
	} {
		var id [16]byte
		must(t, tx.QueryRow(t.Context(), emit, c.kind, c.key, c.body, `{"traceparent": "00-a-b-01", "millrace-tenant": "acme"}`).Scan(&id))
		events := outboxtest.Events(t, tx)
		emitted := events[len(events)-1]
		if emitted.ID != id || len(emitted.Headers) != 2 {
			t.Errorf("%s: %+v", c.body, emitted)
		}
		key, _ := c.key.(string)
		must(t, out.Write(t.Context(), tx, outbox.Record{Type: c.kind, Key: key, Fields: emitted.Fields}))
		events = outboxtest.Events(t, tx)
		written := events[len(events)-1]
		if emitted.Key != written.Key || emitted.Topic != written.Topic || emitted.Type != written.Type {
			t.Errorf("%s: emitted %q to %s, written %q to %s", c.body, emitted.Key, emitted.Topic, written.Key, written.Topic)
		}
	}
}

func TestEmitRefusesAtOnce(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	newOutbox(t, pool)
	const good = `{"book_id": "b", "member_id": "m", "due": "2025-03-14"}`
	long := strings.Repeat("x", 1025)
	for _, c := range []struct {
		name                     string
		kind, key, body, headers any
		state, column, words     string
	}{
		{"unknown type", "library.Unknown", nil, good, nil, "MR001", "", "unknown event type 'library.Unknown'"},
		{"null type", nil, nil, good, nil, "MR001", "", "NULL"},
		{"hostile type", "x'; drop table y; %s --", nil, good, nil, "MR001", "", "unknown"},
		{"no topic", "library.Remark", "k", `{"text": "x"}`, nil, "MR002", "", "names no topic"},
		{"null body", "library.BookLent", nil, nil, nil, "MR003", "", "not NULL"},
		{"array body", "library.BookLent", nil, `[1]`, nil, "MR003", "", "not array"},
		{"null in JSON", "library.BookLent", nil, `null`, nil, "MR003", "", "not null"},
		{"missing field", "library.BookLent", nil, `{"book_id": "b", "due": "2025-03-14"}`, nil, "MR004", "member_id", "member_id is missing"},
		{"null field", "library.BookLent", nil, `{"book_id": "b", "member_id": null, "due": "2025-03-14"}`, nil, "MR004", "member_id", "member_id cannot be null"},
		{"null for a default", "library.BookLent", nil, `{"book_id": "b", "member_id": "m", "due": "2025-03-14", "copies": null}`, nil, "MR004", "copies", "cannot be null"},
		{"unknown field", "library.BookLent", nil, `{"book_id": "b", "member_id": "m", "due": "2025-03-14", "dew": 1}`, nil, "MR005", "dew", "unknown field dew"},
		{"long unknown field", "library.BookLent", nil, `{"book_id": "b", "member_id": "m", "due": "2025-03-14", "` + long + `": 1}`, nil, "MR005", long[:200], "unknown field"},
		{"no key", "library.BookLent", nil, `{"book_id": "", "member_id": "m", "due": "2025-03-14"}`, nil, "MR006", "book_id", "none in field book_id"},
		{"empty key", "library.BookLent", "", good, nil, "MR006", "book_id", "no key given"},
		{"key of a wrong type", "library.BookLent", nil, `{"book_id": {"a": 1}, "member_id": "m", "due": "2025-03-14"}`, nil, "MR006", "book_id", "none in field"},
		{"long key", "library.BookLent", long, good, nil, "MR007", "", "key of 1025 bytes is over the limit of 1024"},
		{"large body", "library.BookLent", nil, `{"book_id": "b", "member_id": "m", "due": "2025-03-14", "note": "` + strings.Repeat("n", 960<<10) + `"}`, nil, "MR007", "", "body of"},
		{"headers are no object", "library.BookLent", nil, good, `["a"]`, "MR008", "", "not array"},
		{"a number as a header", "library.BookLent", nil, good, `{"a": 1}`, "MR008", "", "header a"},
		{"null as a header", "library.BookLent", nil, good, `{"a": null}`, "MR008", "", "header a"},
		{"reserved header", "library.BookLent", nil, good, `{"ce_id": "x"}`, "MR008", "", "header ce_id"},
		{"our header", "library.BookLent", nil, good, `{"millrace-seq": "1"}`, "MR008", "", "millrace-seq"},
		{"upper case header", "library.BookLent", nil, good, `{"Trace": "1"}`, "MR008", "", `"Trace"`},
		{"newline in a header name", "library.BookLent", nil, good, `{"a\nb": "1"}`, "MR008", "", "not allowed"},
		{"trailing newline in a header name", "library.BookLent", nil, good, `{"a\n": "1"}`, "MR008", "", "not allowed"},
		{"large headers", "library.BookLent", nil, good, `{"a": "` + strings.Repeat("v", 8<<10) + `"}`, "MR007", "", "headers are over"},
		{"many headers", "library.BookLent", nil, good, manyHeaders(33), "MR007", "", "headers are over"},
	} {
		_, err := pool.Exec(t.Context(), emit, c.kind, c.key, c.body, c.headers)
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != c.state || e.ColumnName != c.column || !strings.Contains(e.Message, c.words) {
			t.Errorf("%s: got %v (%+v), want %s, column %q, %q", c.name, err, e, c.state, c.column, c.words)
		}
	}
	outboxtest.Require(t, pool)
	_, err := pool.Exec(t.Context(), emit, "library.BookLent", nil, good, manyHeaders(32))
	must(t, err)
}

func manyHeaders(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`"h%d": "v"`, i)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// Promise 1, for emit: the event is part of the caller's transaction, and a refusal can be caught with a savepoint.
func TestPromise1EmitIsPartOfTheTransaction(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	newOutbox(t, pool)
	tx := begin(t, pool)
	event := outbox.Record{Type: "library.ShelfMoved", Fields: map[string]any{"room": "north", "shelf": 1}}
	_, err := tx.Exec(t.Context(), emit, event.Type, nil, `{"room": "north", "shelf": 1}`, nil)
	must(t, err)
	if err := pgx.BeginFunc(t.Context(), tx, func(sp pgx.Tx) error {
		_, err := sp.Exec(t.Context(), emit, "library.Unknown", nil, `{}`, nil)
		return err
	}); sqlState(err) != "MR001" {
		t.Errorf("got %v", err)
	}
	outboxtest.Require(t, pool)
	outboxtest.Require(t, tx, event)
	must(t, tx.Rollback(t.Context()))
	outboxtest.Require(t, pool)
}

// A schema pushed later must not reinterpret events that are there already.
func TestEmitStampsTheSchemaAtInsert(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	newOutbox(t, pool)
	tx := begin(t, pool)
	_, err := tx.Exec(t.Context(), emit, "library.ShelfMoved", nil, `{"room": "north", "shelf": 1}`, nil)
	must(t, err)
	must(t, tx.Commit(t.Context()))
	var before, after string
	stamp := "select encode(schema_fp, 'hex') from outbox.event order by id desc limit 1"
	must(t, pool.QueryRow(t.Context(), stamp).Scan(&before))
	_, err = pool.Exec(t.Context(), `insert into outbox.schema (fingerprint, name, topic, definition, fields)
		values (decode(repeat('ab', 16), 'hex'), 'library.ShelfMoved', 'library.shelves', '{}', '{x}')`)
	must(t, err)
	_, err = pool.Exec(t.Context(), emit, "library.ShelfMoved", "1", `{"x": 1}`, nil)
	must(t, err)
	must(t, pool.QueryRow(t.Context(), stamp).Scan(&after))
	shelf, _ := library(t).Lookup("library.ShelfMoved")
	if before != shelf.Fingerprint.String() || after != strings.Repeat("ab", 16) {
		t.Errorf("stamped %s, then %s", before, after)
	}
}

// The function must not be led astray by what the caller has put on its search path.
func TestEmitIgnoresTheCallersSearchPath(t *testing.T) {
	t.Parallel()
	db, pool := migrated(t)
	newOutbox(t, pool)
	conn := db.Conn(t)
	for _, q := range []string{
		"create schema mine", "create table mine.event (like outbox.event)", "create temp table event (like outbox.event)",
		"create function mine.octet_length(text) returns int language sql as 'select 1000000000'",
		"create function mine.gen_random_uuid() returns uuid language sql as $$ select '00000000-0000-0000-0000-000000000000'::uuid $$",
		"set search_path = mine, pg_temp, pg_catalog",
	} {
		_, err := conn.Exec(t.Context(), q)
		must(t, err)
	}
	_, err := conn.Exec(t.Context(), emit, "library.ShelfMoved", nil, `{"room": "north", "shelf": 1}`, nil)
	must(t, err)
	events := outboxtest.Events(t, pool)
	if len(events) != 1 || events[0].ID == ([16]byte{}) {
		t.Errorf("the outbox holds %+v", events)
	}
}
