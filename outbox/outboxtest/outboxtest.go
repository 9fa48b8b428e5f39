// Package outboxtest helps to test what an application writes to its outbox, on a real PostgreSQL.
//
//	func TestPay(t *testing.T) {
//		outboxtest.Migrate(t, pool)
//		...
//		pay(ctx, tx, "o-1")
//		outboxtest.Require(t, tx, OrderPaid{OrderID: "o-1", Total: total})
//	}
//
// Events reads what is there; Require compares it with what a test expects and shows the differences field by field.
// Given a transaction they see its own events as well, so a test may roll back and leave nothing behind.
//
// Files: outboxtest.go has Migrate and Events, require.go has Require, diff.go what it shows.
package outboxtest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/internal/dbtx"
	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas/avro"
)

// Event is an event as it was written.
type Event struct {
	Type, Topic, Key string
	// Fields holds the decoded values; package schemas/avro says which Go type each one has. An event that was written
	// by emit() is encoded first, as the relay will do it.
	Fields     map[string]any
	Headers    map[string]string // nil for none
	ID         [16]byte
	OccurredAt time.Time

	payload []byte
	codec   *avro.Codec
}

// Migrate creates the tables of the outbox, or fails the test. It may be called again.
func Migrate[DB outbox.Database](t testing.TB, db DB, opts ...migrate.Option) {
	t.Helper()
	if _, err := migrate.Up(t.Context(), db, opts...); err != nil {
		t.Fatal(err)
	}
}

// Outbox is an outbox under test. The zero value is the one in the database schema "outbox", which the functions of
// this package use.
type Outbox struct {
	// Schema names the database schema. Default: "outbox".
	Schema string
}

// Events returns the events of the default outbox that db sees, in the order in which they were written. db is a
// pool, connection or transaction of pgx (*pgxpool.Pool, *pgx.Conn, pgx.Tx) or of database/sql (*sql.DB, *sql.Conn,
// *sql.Tx). An event that cannot be read, and so would be parked by the relay, fails the test.
func Events(t testing.TB, db any) []Event {
	t.Helper()
	return Outbox{}.Events(t, db)
}

// Events is the function Events for this outbox.
func (o Outbox) Events(t testing.TB, db any) []Event {
	t.Helper()
	q, err := dbtx.Reader(db)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := store.Written(t.Context(), q, o.Schema)
	if err != nil {
		t.Fatal(err)
	}
	codecs := map[string]*avro.Codec{}
	events := make([]Event, len(rows))
	for i, r := range rows {
		if events[i], err = read(r, codecs); err != nil {
			t.Fatalf("event %d in the outbox (%s, key %q): %v", i, r.Type, r.Key, err)
		}
	}
	return events
}

func read(r store.WrittenRow, codecs map[string]*avro.Codec) (Event, error) {
	e := Event{Type: r.Type, Topic: r.Topic, Key: r.Key, ID: r.EventID, OccurredAt: r.OccurredAt, payload: r.Payload}
	if r.Headers != "" {
		if err := json.Unmarshal([]byte(r.Headers), &e.Headers); err != nil {
			return e, fmt.Errorf("headers %s: %w", r.Headers, err)
		}
	}
	if r.Definition == "" {
		return e, fmt.Errorf("its schema is not stored in the outbox")
	}
	codec, ok := codecs[r.Definition]
	if !ok {
		var err error
		if codec, err = avro.New(r.Definition); err != nil {
			return e, err
		}
		codecs[r.Definition] = codec
	}
	e.codec = codec
	var err error
	if r.Body != "" {
		if e.payload, err = codec.AppendEncodeJSON(nil, []byte(r.Body)); err != nil {
			return e, fmt.Errorf("the relay will park it: %w", err)
		}
	}
	e.Fields, err = codec.Decode(e.payload)
	return e, err
}
