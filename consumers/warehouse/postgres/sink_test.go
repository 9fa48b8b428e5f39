package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/test/harness"
)

// Promise 4: exactly once in effect in every sink.
func TestSink(t *testing.T) {
	db := harness.Postgres(t)
	sinktest.Run(t, func(t testing.TB) sinktest.Backend { return &backend{url: db.DSN, schema: unique(t)} })
}

var (
	_ sinktest.Crasher     = (*backend)(nil)
	_ sinktest.EventKeeper = (*backend)(nil)
)

// backend opens another pool at each restart; the connections of the one before live on, as those of a process that is frozen.
type backend struct {
	url, schema string
	open        *Warehouse
}

func (b *backend) Open(t testing.TB) fold.Sink {
	t.Helper()
	b.open = openAt(t, Config{URL: b.url, Schema: b.schema, Projections: sinktest.Projections(), ClaimPatience: 300 * time.Millisecond})
	return b.open
}

// Offers implements sinktest.Backend.
func (b *backend) Offers() sinktest.Offers { return sinktest.Offers{} }

func (b *backend) CrashPoints() []string {
	return []string{"after position", "after bronze", "before commit", "commit sent", "after commit"}
}

var errCrashed = errors.New("crashed on purpose")

// CrashAt cuts the connection at the point, as the end of the process would.
func (b *backend) CrashAt(_ testing.TB, point string) {
	b.open.hook = func(at string) error {
		if at != point {
			return nil
		}
		return errCrashed
	}
}

func (b *backend) conn(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Dump reads the keys that the view shows, for the view has neither event id nor the exact form of JSON.
func (b *backend) Dump(t testing.TB, entity string) map[string]fold.Stored {
	t.Helper()
	rows, err := b.conn(t).Query(context.Background(), "SELECT _key FROM "+b.open.space.silver+"."+quote(entity))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	states, err := b.open.Load(context.Background(), entity, keys)
	if err != nil {
		t.Fatal(err)
	}
	return states
}

func (b *backend) DumpEvents(t testing.TB, topic string) []consumers.Event {
	t.Helper()
	rows, err := b.conn(t).Query(context.Background(), `SELECT topic, partition, "offset", key, event_id, type, seq, event_time, payload FROM `+b.open.space.bronze+
		`.events WHERE topic = $1 ORDER BY partition, "offset"`, topic)
	if err != nil {
		t.Fatal(err)
	}
	var events []consumers.Event
	var ev consumers.Event
	_, err = pgx.ForEachRow(rows, []any{&ev.Topic, &ev.Partition, &ev.Offset, &ev.Key, &ev.ID, &ev.Type, &ev.Seq, &ev.Time, &ev.Payload}, func() error {
		ev.Time = ev.Time.UTC()
		events = append(events, ev)
		ev.Payload = nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return events
}
