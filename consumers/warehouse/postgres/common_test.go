package postgres

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/test/harness"
)

// declared is a projection of which only the declaration is used.
type declared struct {
	entity, topic, digest string
	columns               []projection.Column
}

func (d declared) Entity() string               { return d.entity }
func (d declared) Topic() string                { return d.topic }
func (d declared) Digest() string               { return d.digest }
func (d declared) Columns() []projection.Column { return d.columns }
func (d declared) Fold(s projection.State, _ *consumers.Event) (projection.State, error) {
	return s, nil
}
func (d declared) CacheKeys(string, projection.State) ([]string, error) { return nil, nil }

var orders = declared{entity: "order", topic: "shop.orders", digest: "0123456789abcdef", columns: []projection.Column{
	{Name: "status", Type: projection.Type{Kind: projection.Text}},
	{Name: "total", Type: projection.Type{Kind: projection.Decimal, Precision: 38, Scale: 18}},
	{Name: "placed", Type: projection.Type{Kind: projection.Timestamp}},
	{Name: "lines", Type: projection.Type{Kind: projection.JSON}},
	{Name: "group", Type: projection.Type{Kind: projection.Int}},
}}

var (
	tp0  = consumers.TopicPartition{Topic: "shop.orders", Partition: 0}
	noon = time.Date(2026, 5, 1, 12, 0, 0, 123456000, time.UTC)
)

var schemas atomic.Int64

// unique is a Config.Schema that no other test of the database has.
func unique(testing.TB) string { return fmt.Sprintf("t%d", schemas.Add(1)) }

func openAt(t testing.TB, cfg Config) *Warehouse {
	t.Helper()
	w, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// server is the database that the tests of this package share.
func server(t testing.TB) string {
	t.Helper()
	return harness.Postgres(t).DSN
}

// connect returns a connection beside the warehouse.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func run(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// one runs a query for one value.
func one[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func claim(t testing.TB, w *Warehouse, tp consumers.TopicPartition) fold.Claim {
	t.Helper()
	c, err := w.Claim(context.Background(), tp)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func commit(t testing.TB, w *Warehouse, c fold.Commit) {
	t.Helper()
	if err := w.Commit(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

// put is a batch of one event and one state.
func put(entity string, tp consumers.TopicPartition, epoch, offset int64, key string, values ...any) fold.Commit {
	return fold.Commit{
		TopicPartition: tp, Epoch: epoch, From: offset, Next: offset + 1,
		Events: []consumers.Event{consumers.Event{TopicPartition: tp, Offset: offset, Key: key, Type: "shop.Event", ID: fmt.Sprint("e", offset), Seq: offset + 1, Time: noon}.WithFields(map[string]any{})},
		Changes: map[string][]fold.Change{entity: {{Key: key, Stored: fold.Stored{
			State: projection.State{Exists: true, Values: values}, Version: offset + 1, EventID: fmt.Sprint("e", offset), Time: noon}}}},
	}
}

// until waits for a query to be true.
func until(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !one[bool](t, conn, sql, args...); {
		if time.Now().After(deadline) {
			t.Fatalf("a minute passed, and it is not so: %s", sql)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
