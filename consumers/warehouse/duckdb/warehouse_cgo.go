//go:build cgo

package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers"
)

// Warehouse is an open warehouse. It is safe for concurrent use.
type Warehouse struct {
	cfg     Config
	path    string // absolute
	db      *sql.DB
	tables  map[string]*table // by entity
	metrics *metrics
	write   *writer
	slots   chan struct{} // one a running query
	gold    *Gold

	// hook is called at named points of a commit; tests stop it there.
	hook func(point string) error

	mu     sync.Mutex // guards the following
	closed bool
	users  sync.WaitGroup // calls that read
}

// checkpointBytes is the size of the log, in bytes, from which a commit writes it into the tables. A checkpoint writes every group of rows anew
// in which one has changed, which are all of them where keys come at random, so it must not come every few batches, as it does by
// default (16 MiB). What is in the log is read again after a kill, in a second or two.
const checkpointBytes = 128 << 20

// opened are the files that this process has open: DuckDB would hand out the same database twice.
var opened = struct {
	sync.Mutex
	paths map[string]bool
}{paths: map[string]bool{}}

// Open opens the warehouse, and makes it if there is none. What no retry helps against is marked systemic: ErrRebuild, a folder that
// cannot be written, a damaged file, ErrOpen in this process. ErrOpen in another process is not: that one may be about to end.
func Open(cfg Config) (*Warehouse, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, consumers.AsSystemic(err)
	}
	path, err := filepath.Abs(cfg.file())
	if err != nil {
		return nil, consumers.AsSystemic(fmt.Errorf("open warehouse %s: %w", cfg.file(), err))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, consumers.AsSystemic(fmt.Errorf("open warehouse: %w", err))
	}
	if !reserve(path) {
		return nil, consumers.AsSystemic(fmt.Errorf("open warehouse %s: %w, in this process", cfg.file(), ErrOpen))
	}
	w, err := openFile(cfg, path)
	if err != nil {
		release(path)
		return nil, openError(cfg.file(), err)
	}
	cfg.Logger.Info("warehouse opened", "path", cfg.file(), "entities", len(w.tables))
	return w, nil
}

// openError says what may help. A process that is about to end may still have the file: that passes.
func openError(path string, err error) error {
	err = fmt.Errorf("open warehouse %s: %w", path, err)
	switch {
	case errors.Is(err, ErrOpen):
		return err
	case errors.Is(err, ErrRebuild):
		err = fmt.Errorf("%w: as another generation, in a file of its own, while this one serves (millrace rebuild)", err)
	}
	return consumers.AsSystemic(err)
}

func reserve(path string) bool {
	opened.Lock()
	defer opened.Unlock()
	if opened.paths[path] {
		return false
	}
	opened.paths[path] = true
	return true
}

func release(path string) {
	opened.Lock()
	defer opened.Unlock()
	delete(opened.paths, path)
}

func openFile(cfg Config, path string) (*Warehouse, error) {
	options := []string{
		"access_mode=READ_WRITE", fmt.Sprintf("threads=%d", cfg.Threads), fmt.Sprintf("memory_limit=%dKiB", cfg.MemoryBytes>>10),
		fmt.Sprintf("max_temp_directory_size=%dKiB", cfg.TempBytes>>10),
		fmt.Sprintf("checkpoint_threshold=%dKiB", checkpointBytes>>10),
		"autoinstall_known_extensions=false", "autoload_known_extensions=false", "allow_community_extensions=false",
	}
	connector, err := duckdb.NewConnector(path+"?"+strings.Join(options, "&"), nil)
	if err != nil {
		if strings.Contains(err.Error(), "Conflicting lock") || strings.Contains(err.Error(), "Could not set lock") { // has no type of its own
			return nil, fmt.Errorf("%w, in another process", ErrOpen)
		}
		return nil, err
	}
	w := &Warehouse{
		cfg: cfg, path: path, db: sql.OpenDB(connector), metrics: newMetrics(cfg.Registerer), slots: make(chan struct{}, cfg.MaxQueries),
	}
	w.gold = &Gold{w: w}
	w.db.SetMaxIdleConns(8)
	conn, err := connector.Connect(context.Background())
	if err != nil {
		return nil, errors.Join(err, w.db.Close())
	}
	w.write = newWriter(w, conn.(*duckdb.Conn))
	if w.tables, err = prepareStore(w.write.conn, cfg.Projections); err == nil {
		err = lockDown(w.write.conn)
	}
	if err != nil {
		return nil, errors.Join(err, w.write.conn.Close(), w.db.Close())
	}
	go w.write.run() // Close waits for it
	return w, nil
}

// lockDown takes away from every connection, the users' and ours, what none needs: files, extensions, settings.
func lockDown(conn *duckdb.Conn) error {
	for _, s := range []string{
		"SET GLOBAL TimeZone = 'UTC'",
		"SET GLOBAL enable_external_access = false",
		"SET GLOBAL lock_configuration = true",
	} {
		if err := execute(context.Background(), conn, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// Close ends the transaction at work, waits for queries, and closes the file. Commits that wait for their turn fail with ErrClosed.
func (w *Warehouse) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	w.mu.Unlock()
	w.write.stop()
	w.users.Wait()
	err := errors.Join(w.write.conn.Close(), w.db.Close())
	release(w.path)
	w.cfg.Logger.Info("warehouse closed", "path", w.cfg.file())
	return err
}

// enter keeps the file open until leave.
func (w *Warehouse) enter() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	w.users.Add(1)
	return nil
}

func (w *Warehouse) leave() { w.users.Done() }

const positionsQuery = `SELECT topic, partition, next FROM millrace.positions WHERE next >= 0`

func addPosition(to map[consumers.TopicPartition]int64, row []driver.Value) {
	to[consumers.TopicPartition{Topic: row[0].(string), Partition: row[1].(int32)}] = row[2].(int64)
}

// Positions implements fold.Sink.
func (w *Warehouse) Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error) {
	out := map[consumers.TopicPartition]int64{}
	err := w.read(ctx, positionsQuery, nil, func(row []driver.Value) error { addPosition(out, row); return nil })
	if err != nil {
		return nil, doing(err, "read positions")
	}
	return out, nil
}

// read runs a query of ours on a connection of its own and hands over each row, whose values are good until the next.
func (w *Warehouse) read(ctx context.Context, query string, args []driver.NamedValue, each func(row []driver.Value) error) error {
	if err := w.enter(); err != nil {
		return err
	}
	defer w.leave()
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool; it cannot fail in a way that matters
	return conn.Raw(func(c any) error { return rowsOf(ctx, c.(*duckdb.Conn), query, args, each) })
}

// rowsOf runs a query on a connection.
func rowsOf(ctx context.Context, conn *duckdb.Conn, query string, args []driver.NamedValue, each func(row []driver.Value) error) (err error) {
	rows, err := conn.QueryContext(ctx, query, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

// execute runs a statement and forgets its result.
func execute(ctx context.Context, conn *duckdb.Conn, statement string, args ...any) error {
	_, err := conn.ExecContext(ctx, statement, bind(args...))
	return err
}

// bind numbers the arguments of a statement.
func bind(args ...any) []driver.NamedValue {
	out := make([]driver.NamedValue, len(args))
	for i, a := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	return out
}
