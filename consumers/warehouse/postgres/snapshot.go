package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// fetchStates is how many states are asked for at a time.
const fetchStates = 2000

// snapshotTries is how often a snapshot begins anew because the tables have changed in between.
const snapshotTries = 3

// snapshot is a transaction that reads, on a connection of its own.
type snapshot struct {
	w         *Warehouse
	conn      *pgx.Conn
	view      *view
	positions map[consumers.TopicPartition]int64
	once      sync.Once
}

// Snapshot implements fold.Snapshotter. The warehouse is not closed before it is. While it is open no table changes (Open of a changed declaration waits, and gives
// up), vacuum leaves what it may see, and Serve waits. The server ends one that is idle for an hour.
func (w *Warehouse) Snapshot(ctx context.Context) (fold.Snapshot, error) {
	if err := w.enter(); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		s, err := w.snapshot(ctx)
		if err == nil {
			return s, nil
		}
		if errors.Is(err, errMoved) {
			if err = w.look(ctx, err); consumers.Classify(err) == consumers.Transient && try < snapshotTries {
				continue
			}
		}
		w.leave()
		return nil, doing(err, "open a snapshot")
	}
}

func (w *Warehouse) snapshot(ctx context.Context) (*snapshot, error) {
	conn, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	s := &snapshot{w: w, conn: conn, view: w.current(), positions: map[consumers.TopicPartition]int64{}}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, hangUp(conn))
	}
	return s, nil
}

// begin locks the tables before the snapshot is taken: one that was rewritten since would look empty to it.
func (s *snapshot) begin(ctx context.Context) error {
	begin := "SET idle_in_transaction_session_timeout = '1h'; BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
	var tables []string
	for _, e := range slices.Sorted(maps.Keys(s.view.tables)) {
		tables = append(tables, s.view.tables[e].full(s.w.space))
	}
	if len(tables) > 0 {
		begin += "; LOCK TABLE " + strings.Join(tables, ", ") + " IN ACCESS SHARE MODE"
	}
	if _, err := s.conn.PgConn().Exec(ctx, begin).ReadAll(); err != nil {
		return err
	}
	var generation int64
	if err := s.conn.QueryRow(ctx, "SELECT generation FROM "+s.w.space.millrace+".layout").Scan(&generation); err != nil {
		return err
	}
	if generation != s.view.generation {
		return errMoved
	}
	return eachPosition(ctx, s.conn, s.w.space, s.positions)
}

// Positions implements fold.Snapshot.
func (s *snapshot) Positions() map[consumers.TopicPartition]int64 { return maps.Clone(s.positions) }

// Exact implements fold.Snapshot.
func (*snapshot) Exact() bool { return true }

// States implements fold.Snapshot.
func (s *snapshot) States(ctx context.Context, entity string, yield func(key string, s fold.Stored) error) error {
	t := s.view.tables[entity]
	if t == nil {
		return consumers.AsSystemic(fmt.Errorf("snapshot of %s: %w", entity, errUnknownEntity))
	}
	if _, err := s.conn.Exec(ctx, "DECLARE millrace_states BINARY NO SCROLL CURSOR FOR "+t.allStatement(s.w.space)); err != nil {
		return doing(err, "read the states of %s", entity)
	}
	var stopped error
	err := fetchAll(ctx, s.conn.PgConn(), "millrace_states", fetchStates, func(row [][]byte) error {
		key := string(row[0])
		stored, err := t.stored(row)
		if err != nil {
			return consumers.AsSystemic(fmt.Errorf("key %q: %w", key, err))
		}
		stopped = yield(key, stored)
		return stopped
	})
	if _, cerr := s.conn.Exec(context.WithoutCancel(ctx), "CLOSE millrace_states"); err == nil {
		err = cerr
	}
	if stopped != nil {
		return stopped
	}
	return doing(err, "read the states of %s", entity)
}

// Close implements fold.Snapshot.
func (s *snapshot) Close() error {
	s.once.Do(func() {
		_ = hangUp(s.conn) // the end of the session is the end of the transaction
		s.w.leave()
	})
	return nil
}
