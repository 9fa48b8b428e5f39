package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/test/history"
)

// event is one event that a transaction wrote.
type event struct {
	id  [16]byte
	key string
	n   int64 // the key's counter, incremented under its row lock: the order of commits
}

// committed is the log of the writers: what PostgreSQL has confirmed, and what nobody knows about because the connection was
// lost in the commit, or it did not wait for the disk. It is safe for concurrent use.
type committed struct {
	mu           sync.Mutex // guards the following
	sure, unsure map[[16]byte]event
	rolledBack   int
}

func newCommitted() *committed {
	return &committed{sure: map[[16]byte]event{}, unsure: map[[16]byte]event{}}
}

// add records the events of a transaction whose commit ended with err.
func (c *committed) add(events []event, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	into := c.sure
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Severity != "FATAL" || errors.Is(err, pgx.ErrTxCommitRollback):
		c.rolledBack++
		return
	case err != nil:
		into = c.unsure
	}
	for _, e := range events {
		into[e.id] = e
	}
}

// events counts those that are known to be committed.
func (c *committed) events() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.sure))
}

// settle asks the table about the commits that nobody knows about, and holds it against the log: an event that the log has and the
// table has not, or the other way round, is a fault of the rig or of PostgreSQL and not of the relay.
func (c *committed) settle(ctx context.Context, w *world) error {
	rows, err := w.pool.Query(ctx, `select event_id from outbox.event`)
	if err != nil {
		return fmt.Errorf("read the table: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	if err != nil {
		return fmt.Errorf("read the table: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	left := maps.Clone(c.sure)
	for _, id := range ids {
		if e, ok := c.unsure[id]; ok {
			c.sure[id] = e
		}
		if _, ok := c.sure[id]; !ok {
			return fmt.Errorf("the table holds event %x, which no writer has committed", id)
		}
		delete(left, id)
	}
	clear(c.unsure)
	if len(left) > 0 {
		return fmt.Errorf("the table has lost %d committed events", len(left))
	}
	return nil
}

// truth is the log as the checker takes it.
func (c *committed) truth() history.Truth {
	c.mu.Lock()
	defer c.mu.Unlock()
	truth := history.Truth{Rows: map[[16]byte]history.Row{}, Counters: map[string]int64{}}
	for id, e := range c.sure {
		truth.Rows[id] = history.Row{Key: e.key, N: e.n}
		truth.Counters[e.key] = max(truth.Counters[e.key], e.n)
	}
	return truth
}

// emit commits one event of a key.
func (w *world) emit(key string) {
	w.t.Helper()
	if err := w.transaction(w.t.Context(), rand.New(rand.NewPCG(w.seed, 7)), []string{key}); err != nil {
		w.t.Fatal(err)
	}
}

// write has writers commit so many transactions, of one to three events each, and returns when they have.
func (w *world) write(writers, transactions int) {
	w.t.Helper()
	if err := w.crowd(w.t.Context(), writers, transactions, 0); err != nil {
		w.t.Fatal(err)
	}
}

// writing has writers at work until stop is called, which returns when they have finished.
func (w *world) writing(writers int, pause time.Duration) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.crowd(ctx, writers, 0, pause) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.t.Errorf("writers: %v", err)
			}
		})
	}
	w.t.Cleanup(stop)
	return stop
}

// crowd runs writers until each has made its share of transactions or ctx ends.
func (w *world) crowd(ctx context.Context, writers, transactions int, pause time.Duration) error {
	var all sync.WaitGroup
	errs := make([]error, writers)
	first := w.rng.Uint64()
	for i := range writers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(first, uint64(i)))
			for n := 0; ctx.Err() == nil && (transactions == 0 || n < (transactions+writers-1)/writers); n++ {
				keys := make([]string, 1+rng.IntN(3))
				for k := range keys {
					keys[k] = fmt.Sprintf("k%d", rng.IntN(10))
				}
				slices.Sort(keys) // against deadlocks
				errs[i] = w.transaction(context.WithoutCancel(ctx), rng, keys)
				switch {
				case errs[i] == nil:
				case !w.mortal:
					return
				default:
					errs[i] = nil
					time.Sleep(50 * time.Millisecond) // until the server is there again
				}
				if pause > 0 {
					time.Sleep(time.Duration(rng.Int64N(int64(2 * pause))))
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// transaction commits an event of each key, in order; now and then a savepoint, or all of it, is taken back. What is known of it goes
// to the log. The error is one that no server's failure explains.
func (w *world) transaction(ctx context.Context, rng *rand.Rand, keys []string) error {
	tx, err := w.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	unflushed, err := w.unflushed(tx, rng)
	if err != nil {
		return err
	}
	several := len(keys) > 1
	if several && rng.IntN(3) == 0 { // a low xid, long before the first row
		if _, err := tx.Exec(ctx, `select pg_current_xact_id(), pg_sleep($1)`, rng.Float64()*0.02); err != nil {
			return err
		}
	}
	var events []event
	for _, key := range keys {
		if several && rng.IntN(6) == 0 {
			if err := w.takenBack(ctx, tx, key); err != nil {
				return err
			}
		}
		e, err := w.step(ctx, tx, key, rng.IntN(4) == 0)
		if err != nil {
			return err
		}
		events = append(events, e)
	}
	if several && rng.IntN(10) == 0 {
		return tx.Rollback(ctx)
	}
	if err = tx.Commit(ctx); err == nil && unflushed {
		err = errUnflushed
	}
	w.log.add(events, err)
	return nil
}

// takenBack writes an event in a savepoint that is rolled back.
func (w *world) takenBack(ctx context.Context, tx pgx.Tx, key string) error {
	sub, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := w.step(ctx, sub, key, false); err != nil {
		return err
	}
	return sub.Rollback(ctx)
}

// step writes the key's next event, as Avro, or as JSON through SQL.
func (w *world) step(ctx context.Context, tx pgx.Tx, key string, json bool) (event, error) {
	e := event{key: key}
	err := tx.QueryRow(ctx, `insert into counter values ($1, 1) on conflict (key) do update set n = counter.n + 1 returning n`, key).Scan(&e.n)
	if err != nil {
		return e, err
	}
	if json && !w.onlyAvro {
		err := tx.QueryRow(ctx, `select outbox.emit('faults.Step', $1, jsonb_build_object('key', $1::text, 'n', $2::bigint))`, key, e.n).Scan(&e.id)
		return e, err
	}
	e.id = outbox.NewID()
	return e, w.out.Write(ctx, tx, outbox.Record{Type: "faults.Step", ID: e.id, Fields: map[string]any{"key": key, "n": e.n}})
}
