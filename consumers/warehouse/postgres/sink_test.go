package postgres

import (
	"context"
	"errors"
	"fmt"
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
	sinktest.Run(t, func(t testing.TB) sinktest.Backend {
		return &backend{url: db.DSN, schema: unique(t), open: map[int]*Warehouse{}}
	})
}

var (
	_ sinktest.Crasher      = (*backend)(nil)
	_ sinktest.EventKeeper  = (*backend)(nil)
	_ sinktest.Generations  = (*backend)(nil)
	_ sinktest.EventPlanter = (*backend)(nil)
)

// backend opens another pool at each restart; the connections of the one before live on, as those of a process that is frozen.
type backend struct {
	url, schema string
	open        map[int]*Warehouse // by generation
}

func (b *backend) Open(t testing.TB) fold.Sink { return b.OpenGeneration(t, 1) }

// OpenGeneration implements sinktest.Generations.
func (b *backend) OpenGeneration(t testing.TB, generation int) fold.Sink {
	t.Helper()
	b.open[generation] = openAt(t, Config{URL: b.url, Schema: b.schema, Generation: generation, Projections: sinktest.Projections(), ClaimPatience: 300 * time.Millisecond})
	return b.open[generation]
}

// ReadServing implements sinktest.Generations. It reads as readers do, and makes states of what they see.
func (b *backend) ReadServing(t testing.TB, entity string) (map[string]fold.Stored, bool) {
	t.Helper()
	columns := map[string]string{sinktest.EntityLedger: "owner", sinktest.EntityTally: "events"}
	conn, err := pgx.Connect(context.Background(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hangUp(conn) }()
	rows, err := conn.Query(context.Background(), "SELECT _key, _version, "+columns[entity]+"::text FROM "+b.open[1].space.silver+"."+entity)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]fold.Stored{}
	var key, first string
	var version int64
	_, err = pgx.ForEachRow(rows, []any{&key, &version, &first}, func() error {
		for _, w := range b.open {
			stored, err := w.Load(context.Background(), entity, []string{key})
			if s, ok := stored[key]; err == nil && ok && s.Exists && s.Version == version && fmt.Sprint(s.Values[0]) == first {
				out[key] = s
				return nil
			}
		}
		return fmt.Errorf("no generation has %q at version %d with %q", key, version, first)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, true
}

// Traces implements sinktest.Generations.
func (b *backend) Traces(t testing.TB, generation int) []string {
	t.Helper()
	s := spaceOf(b.schema, generation)
	rows, err := b.conn(t).Query(context.Background(), `SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' AND c.relname NOT IN ('serving', 'gold')
		AND c.relnamespace IN (to_regnamespace($1), to_regnamespace($2), to_regnamespace($3)) UNION ALL
		SELECT n.nspname FROM pg_namespace n WHERE $4 > 1 AND n.oid IN (to_regnamespace($1), to_regnamespace($2), to_regnamespace($3))`, s.millrace, s.bronzeBase, s.base, generation)
	if err != nil {
		t.Fatal(err)
	}
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// TellsBehind implements sinktest.Generations.
func (b *backend) TellsBehind() bool { return true }

// ServePoints implements sinktest.Generations.
func (b *backend) ServePoints() []string {
	return []string{"before serving", "within serving", "after serving"}
}

// RemovePoints implements sinktest.Generations.
func (b *backend) RemovePoints() []string { return []string{"within removing", "after removing"} }

// CrashServing implements sinktest.Generations.
func (b *backend) CrashServing(_ testing.TB, generation int, point string) {
	b.open[generation].hook = func(at string) error {
		if at != point {
			return nil
		}
		return errCrashed
	}
}

// DoubleEvent implements sinktest.EventPlanter.
func (b *backend) DoubleEvent(t testing.TB, tp consumers.TopicPartition, offset int64) {
	t.Helper()
	table := b.open[1].space.bronzeBase + ".events"
	_, err := b.conn(t).Exec(context.Background(), "INSERT INTO "+table+" SELECT * FROM "+table+` WHERE topic = $1 AND partition = $2 AND "offset" = $3`, tp.Topic, tp.Partition, offset)
	if err != nil {
		t.Fatal(err)
	}
}

// Offers implements sinktest.Backend.
func (b *backend) Offers() sinktest.Offers {
	return sinktest.Offers{Snapshots: true, Records: true, Generations: true, Replace: true}
}

func (b *backend) CrashPoints() []string {
	return []string{"after position", "after bronze", "before commit", "commit sent", "after commit"}
}

var errCrashed = errors.New("crashed on purpose")

// CrashAt cuts the connection at the point, as the end of the process would.
func (b *backend) CrashAt(_ testing.TB, point string) {
	b.open[1].hook = func(at string) error {
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
	rows, err := b.conn(t).Query(context.Background(), "SELECT _key FROM "+b.open[1].space.silver+"."+quote(entity))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	states, err := b.open[1].Load(context.Background(), entity, keys)
	if err != nil {
		t.Fatal(err)
	}
	return states
}

func (b *backend) DumpEvents(t testing.TB, topic string) []consumers.Event {
	t.Helper()
	rows, err := b.conn(t).Query(context.Background(), `SELECT topic, partition, "offset", key, event_id, type, seq, event_time, payload FROM `+b.open[1].space.bronze+
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
