//go:build cgo

package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
)

// Promise 4: exactly once in effect in every sink.
func TestSink(t *testing.T) {
	sinktest.Run(t, func(t testing.TB) sinktest.Backend { return &backend{dir: t.TempDir()} })
}

var (
	_ sinktest.Crasher     = (*backend)(nil)
	_ sinktest.EventKeeper = (*backend)(nil)
)

// backend opens a copy of the files at each restart, taken while the warehouse before was open, or in the middle of a commit: what
// a kill would have left.
type backend struct {
	dir  string
	n    int
	open *Warehouse
}

func (b *backend) path() string { return filepath.Join(b.dir, string(rune('a'+b.n)), "wh.duckdb") }

func (b *backend) Open(t testing.TB) fold.Sink {
	t.Helper()
	if b.open != nil {
		from := b.path()
		b.n++
		if _, err := os.Stat(b.path()); err != nil { // no crash has left its copy
			copyStore(t, from, b.path())
		}
	}
	w, err := Open(Config{Path: b.path(), Projections: sinktest.Projections(), Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	b.open = w
	return w
}

// copyStore copies the database and its write-ahead log as they are.
func copyStore(t testing.TB, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", ".wal"} {
		err := copyFile(from+suffix, to+suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// Offers implements sinktest.Backend.
func (b *backend) Offers() sinktest.Offers { return sinktest.Offers{} }

func (b *backend) CrashPoints() []string {
	return []string{"after position", "after bronze", "before commit", "after commit"}
}

var errCrashed = errors.New("crashed on purpose")

func (b *backend) CrashAt(t testing.TB, point string) {
	from, to := b.path(), filepath.Join(b.dir, string(rune('a'+b.n+1)), "wh.duckdb")
	b.open.hook = func(at string) error {
		if at != point {
			return nil
		}
		copyStore(t, from, to)
		return errCrashed
	}
}

// Dump reads the table behind the view, for the view has neither event id nor the exact form of JSON.
func (b *backend) Dump(t testing.TB, entity string) map[string]fold.Stored {
	t.Helper()
	var keys []string
	each := func(row []driver.Value) error { keys = append(keys, row[0].(string)); return nil }
	if err := b.open.read(context.Background(), "SELECT _key FROM silver."+quote(entity), nil, each); err != nil {
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
	var events []consumers.Event
	err := b.open.read(context.Background(),
		`SELECT topic, partition, "offset", key, event_id, type, seq, event_time, payload FROM bronze.events WHERE topic = ? ORDER BY partition, "offset"`,
		bind(topic), func(row []driver.Value) error {
			events = append(events, consumers.Event{
				TopicPartition: consumers.TopicPartition{Topic: row[0].(string), Partition: row[1].(int32)}, Offset: row[2].(int64),
				Key: row[3].(string), ID: row[4].(string), Type: row[5].(string), Seq: row[6].(int64), Time: row[7].(time.Time), Payload: row[8].([]byte),
			})
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	return events
}
