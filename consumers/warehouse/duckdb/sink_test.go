//go:build cgo

package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
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
	sinktest.Run(t, func(t testing.TB) sinktest.Backend { return newBackend(t) })
}

var (
	_ sinktest.Crasher      = (*backend)(nil)
	_ sinktest.EventKeeper  = (*backend)(nil)
	_ sinktest.Generations  = (*backend)(nil)
	_ sinktest.StatePlanter = (*backend)(nil)
	_ sinktest.EventPlanter = (*backend)(nil)
)

// backend opens a copy of the files at each restart, taken while the warehouse before was open, or in the middle of a commit: what
// a kill would have left. Each generation is copied by itself.
type backend struct {
	dir         string
	generations map[int]*opening
}

// opening is how often a generation was opened, and the warehouse of the last time.
type opening struct {
	n    int
	open *Warehouse
}

func newBackend(t testing.TB) *backend {
	return &backend{dir: t.TempDir(), generations: map[int]*opening{}}
}

// config is that of a generation when it is opened for the n-th time.
func (b *backend) config(generation, n int) Config {
	path := filepath.Join(b.dir, fmt.Sprint(generation, "-", n), "wh.duckdb")
	return Config{Path: path, Generation: generation, Projections: sinktest.Projections(), Threads: 1}
}

func (b *backend) last() *Warehouse { return b.generations[1].open }

func (b *backend) Open(t testing.TB) fold.Sink { return b.OpenGeneration(t, 1) }

func (b *backend) OpenGeneration(t testing.TB, generation int) fold.Sink {
	t.Helper()
	o := b.generations[generation]
	if o == nil {
		o = &opening{}
		b.generations[generation] = o
	} else {
		from := b.config(generation, o.n).file()
		o.n++
		to := b.config(generation, o.n).file()
		if _, err := os.Stat(to); err != nil { // no crash has left its copy
			copyStore(t, from, to)
		}
	}
	w, err := Open(b.config(generation, o.n))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	o.open = w
	return w
}

// Offers implements sinktest.Backend.
func (b *backend) Offers() sinktest.Offers {
	return sinktest.Offers{Snapshots: true, Records: true, Generations: true, Replace: true}
}

// ReadServing implements sinktest.Generations: whoever reads asks the process.
func (b *backend) ReadServing(testing.TB, string) (map[string]fold.Stored, bool) { return nil, false }

// Traces implements sinktest.Generations.
func (b *backend) Traces(t testing.TB, generation int) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(b.config(generation, b.generations[generation].n).Path), "*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// TellsBehind implements sinktest.Generations.
func (b *backend) TellsBehind() bool { return false }

// ServePoints implements sinktest.Generations.
func (b *backend) ServePoints() []string { return nil }

// RemovePoints implements sinktest.Generations.
func (b *backend) RemovePoints() []string { return []string{"remove.wal", "remove.tmp", "remove"} }

// CrashServing implements sinktest.Generations.
func (b *backend) CrashServing(_ testing.TB, generation int, point string) {
	b.generations[generation].open.hook = func(at string) error {
		if at != point {
			return nil
		}
		return errCrashed
	}
}

// DoubleState implements sinktest.StatePlanter.
func (b *backend) DoubleState(t testing.TB, entity, key string) {
	b.tamper(t, "INSERT INTO "+b.last().tables[entity].full()+" SELECT * FROM "+b.last().tables[entity].full()+" WHERE _key = ? LIMIT 1", key)
}

// DoubleEvent implements sinktest.EventPlanter.
func (b *backend) DoubleEvent(t testing.TB, tp consumers.TopicPartition, offset int64) {
	b.tamper(t, `INSERT INTO bronze.events SELECT * FROM bronze.events WHERE topic = ? AND partition = ? AND "offset" = ?`, tp.Topic, tp.Partition, offset)
}

// tamper changes the file behind the sink's back.
func (b *backend) tamper(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := b.last().db.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
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

func (b *backend) CrashPoints() []string {
	return []string{"after position", "after bronze", "before commit", "after commit"}
}

var errCrashed = errors.New("crashed on purpose")

func (b *backend) CrashAt(t testing.TB, point string) {
	from, to := b.config(1, b.generations[1].n).file(), b.config(1, b.generations[1].n+1).file()
	b.last().hook = func(at string) error {
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
	if err := b.last().read(context.Background(), "SELECT _key FROM silver."+quote(entity), nil, each); err != nil {
		t.Fatal(err)
	}
	states, err := b.last().Load(context.Background(), entity, keys)
	if err != nil {
		t.Fatal(err)
	}
	return states
}

func (b *backend) DumpEvents(t testing.TB, topic string) []consumers.Event {
	t.Helper()
	var events []consumers.Event
	err := b.last().read(context.Background(),
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
