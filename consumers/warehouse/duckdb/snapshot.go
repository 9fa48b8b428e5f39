//go:build cgo

package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"sync"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// snapshotRows is how many places of a table are read at a time. The driver has a whole answer in memory.
const snapshotRows = 16_384

// snapshot is a transaction that reads. While it is open the log of the file is not written into its tables, and grows.
type snapshot struct {
	w         *Warehouse
	conn      *sql.Conn
	positions map[consumers.TopicPartition]int64
	once      sync.Once
}

// Snapshot implements fold.Snapshotter. The warehouse is not closed before it is.
func (w *Warehouse) Snapshot(ctx context.Context) (fold.Snapshot, error) {
	s, err := w.snapshot(ctx)
	if err != nil {
		return nil, doing(err, "open a snapshot")
	}
	return s, nil
}

func (w *Warehouse) snapshot(ctx context.Context) (*snapshot, error) {
	if err := w.enter(); err != nil {
		return nil, err
	}
	conn, err := w.db.Conn(ctx)
	if err != nil {
		w.leave()
		return nil, err
	}
	s := &snapshot{w: w, conn: conn, positions: map[consumers.TopicPartition]int64{}}
	err = s.on(func(c *duckdb.Conn) error {
		if err := execute(ctx, c, "BEGIN TRANSACTION READ ONLY"); err != nil {
			return err
		}
		// What the transaction sees is settled by the first statement that reads.
		return rowsOf(ctx, c, positionsQuery, nil, func(row []driver.Value) error {
			addPosition(s.positions, row)
			return nil
		})
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *snapshot) on(f func(*duckdb.Conn) error) error {
	return s.conn.Raw(func(c any) error { return f(c.(*duckdb.Conn)) })
}

// Positions implements fold.Snapshot.
func (s *snapshot) Positions() map[consumers.TopicPartition]int64 { return maps.Clone(s.positions) }

// Exact implements fold.Snapshot.
func (*snapshot) Exact() bool { return true }

// States implements fold.Snapshot. It reads the table piece by piece.
func (s *snapshot) States(ctx context.Context, entity string, yield func(key string, s fold.Stored) error) error {
	t := s.w.tables[entity]
	if t == nil {
		return consumers.AsSystemic(fmt.Errorf("snapshot of %s: %w", entity, errUnknownEntity))
	}
	end := int64(0)
	err := s.on(func(c *duckdb.Conn) error {
		return rowsOf(ctx, c, "SELECT coalesce(max(rowid) + 1, 0) FROM "+t.full(), nil, func(row []driver.Value) error {
			end, _ = row[0].(int64)
			return nil
		})
	})
	var stopped error
	for from := int64(0); from < end && err == nil; from += snapshotRows {
		err = s.on(func(c *duckdb.Conn) error {
			return rowsOf(ctx, c, t.page, bind(from, from+snapshotRows), func(row []driver.Value) error {
				key, stored, err := t.stored(row)
				if err != nil {
					return fmt.Errorf("key %q: %w", key, err)
				}
				stopped = yield(key, stored)
				return stopped
			})
		})
	}
	if stopped != nil {
		return stopped
	}
	return doing(err, "read the states of %s", entity)
}

// Close implements fold.Snapshot.
func (s *snapshot) Close() error {
	var err error
	s.once.Do(func() {
		defer s.w.leave()
		err = s.on(func(c *duckdb.Conn) error {
			if err := execute(context.Background(), c, "ROLLBACK"); err != nil {
				return driver.ErrBadConn // it does not go back to the pool, and its end is the transaction's
			}
			return nil
		})
		if errors.Is(err, driver.ErrBadConn) {
			err = nil
		}
		err = errors.Join(err, s.conn.Close())
	})
	return err
}
