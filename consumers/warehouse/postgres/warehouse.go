package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/consumers"
)

// Warehouse is an open warehouse. It is safe for concurrent use. Other processes may have it open as well.
type Warehouse struct {
	cfg     Config
	space   space
	pool    *pgxpool.Pool // connections that write
	metrics *metrics
	slots   chan struct{} // one a running query

	// hook is called at named points of a commit; tests stop it there.
	hook func(point string) error

	mu      sync.Mutex // guards the following
	view    *view
	closed  bool
	looking sync.Mutex     // held while the tables are looked at anew; taken before mu
	users   sync.WaitGroup // calls that go on
}

// view is what is known of the tables. It does not change; another one takes its place.
type view struct {
	generation int64
	tables     map[string]*table // by entity
}

// openTimeout bounds the whole of Open but for the change of tables.
const openTimeout = 30 * time.Second

// Open connects to the warehouse, and makes what is missing of it. What no retry helps against is marked systemic: ErrRebuild, ErrURL, a
// user that is refused, a database that does not exist, a right that is missing.
func Open(cfg Config) (*Warehouse, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, consumers.AsSystemic(err)
	}
	w := &Warehouse{cfg: cfg, space: spaceOf(cfg.Schema, cfg.Generation), metrics: newMetrics(cfg.Registerer), slots: make(chan struct{}, cfg.MaxQueries)}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	v, err := w.prepare(ctx)
	if err == nil {
		w.view = v
		err = w.openPool(ctx)
	}
	if err != nil {
		if errors.Is(err, ErrRebuild) {
			err = consumers.AsSystemic(fmt.Errorf("%w: as another generation, in tables of its own, while this one serves (millrace rebuild)", err))
		}
		return nil, doing(err, "open warehouse")
	}
	cfg.Logger.Info("warehouse opened", "kind", "postgres", "generation", cfg.Generation, "entities", len(v.tables))
	return w, nil
}

// dial makes a connection of its own, for what is no lane's work. The caller closes it.
func (w *Warehouse) dial(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := parseURL(w.cfg.URL)
	if err != nil {
		return nil, err
	}
	w.name(cfg.ConnConfig)
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return nil, err
	}
	if _, err := conn.PgConn().Exec(ctx, sessionSettings).ReadAll(); err != nil {
		return nil, errors.Join(err, hangUp(conn))
	}
	return conn, nil
}

// hangUp closes a connection that may no longer answer.
func hangUp(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return conn.Close(ctx)
}

// current is what is known of the tables.
func (w *Warehouse) current() *view {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}

// look finds out what it means that the tables have changed: they are still ours, and the batch can be tried again; or another process
// has declared an entity in another way.
func (w *Warehouse) look(ctx context.Context, cause error) error {
	w.looking.Lock()
	defer w.looking.Unlock()
	before := w.current()
	conn, err := w.dial(ctx)
	if err != nil {
		return errors.Join(cause, err)
	}
	defer func() { _ = hangUp(conn) }()
	now, missing, err := w.inspect(ctx, conn)
	switch {
	case err != nil && errors.Is(err, ErrRebuild), err == nil && missing:
		return consumers.AsSystemic(errors.Join(ErrReplaced, err))
	case err != nil:
		return errors.Join(cause, err)
	case now.generation == before.generation: // another lane has looked
		return fmt.Errorf("%w; the batch is tried again", cause)
	}
	w.mu.Lock()
	w.view = now
	w.mu.Unlock()
	w.cfg.Logger.Info("the tables of the warehouse have changed; going on with the new ones")
	return fmt.Errorf("%w; the batch is tried again", cause)
}

// eachPosition reads the positions of a generation.
func eachPosition(ctx context.Context, conn *pgx.Conn, s space, to map[consumers.TopicPartition]int64) error {
	rows, err := conn.Query(ctx, "SELECT topic, partition, next FROM "+s.millrace+".positions WHERE next >= 0")
	if err != nil {
		return err
	}
	var tp consumers.TopicPartition
	var next int64
	_, err = pgx.ForEachRow(rows, []any{&tp.Topic, &tp.Partition, &next}, func() error { to[tp] = next; return nil })
	return err
}

// Positions implements fold.Sink.
func (w *Warehouse) Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error) {
	if err := w.enter(); err != nil {
		return nil, err
	}
	defer w.leave()
	out := map[consumers.TopicPartition]int64{}
	err := w.transaction(ctx, func(tx pgx.Tx) error { return eachPosition(ctx, tx.Conn(), w.space, out) })
	if err != nil {
		return nil, doing(err, "read positions")
	}
	return out, nil
}

// Close waits for the calls that go on, and closes the connections.
func (w *Warehouse) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	w.mu.Unlock()
	w.users.Wait()
	w.pool.Close()
	w.cfg.Logger.Info("warehouse closed", "kind", "postgres")
	return nil
}

// enter keeps the connections open until leave.
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
