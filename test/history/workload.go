package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// Workload is a crowd of writers.
type Workload struct {
	DSN     string
	Seed    uint64
	Writers int   // connections that write events
	Keys    int   // keys whose writers take turns
	Commits int64 // how many transactions with events to commit

	committed atomic.Int64
	rolled    atomic.Int64
}

// Setup makes the application's table. The outbox must be there.
func Setup(ctx context.Context, conn *pgx.Conn, keys int) error {
	_, err := conn.Exec(ctx, `create table counter (key text primary key, n bigint not null) with (fillfactor = 20)`)
	if err != nil {
		return fmt.Errorf("make the counters: %w", err)
	}
	_, err = conn.Exec(ctx, `insert into counter select 'k' || g, 0 from generate_series(0, $1 - 1) g`, keys)
	if err != nil {
		return fmt.Errorf("fill the counters: %w", err)
	}
	return nil
}

// Committed returns how many transactions with events were committed so far.
func (w *Workload) Committed() int64 { return w.committed.Load() }

// RolledBack returns how many were rolled back.
func (w *Workload) RolledBack() int64 { return w.rolled.Load() }

// Run writes until Commits transactions are committed or ctx ends, and returns when every writer has stopped.
func (w *Workload) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var writers, strangers errgroup.Group
	for i := range w.Writers {
		writers.Go(func() error { return w.session(ctx, i, w.write) })
	}
	for i := range 2 {
		strangers.Go(func() error { return w.session(ctx, 1000+i, w.stranger) })
	}
	err := writers.Wait()
	stop()
	if strange := strangers.Wait(); err == nil {
		err = strange
	}
	return err
}

// session runs one connection's transactions, one after the other.
func (w *Workload) session(ctx context.Context, i int, transaction func(context.Context, *pgx.Conn, *rand.Rand, int) error) error {
	conn, err := pgx.Connect(ctx, w.DSN)
	if err != nil {
		return fmt.Errorf("connect writer %d: %w", i, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if i%4 == 3 {
		if _, err := conn.Exec(ctx, `set synchronous_commit = off`); err != nil {
			return err
		}
	}
	rng := rand.New(rand.NewPCG(w.Seed, uint64(i)))
	for w.committed.Load() < w.Commits {
		if err := transaction(ctx, conn, rng, i); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("writer %d: %w", i, err)
		}
	}
	return nil
}

// InsertCounted increments a key's counter under its row lock and writes the event that carries the new value. It
// takes the key and any padding (bytea).
const InsertCounted = `with turn as (update counter set n = n + 1 where key = $1 returning key, n)
	insert into outbox.event (topic, key, type, schema_fp, payload)
	select 'history', key, 'history.Step', '\x00000000000000000000000000000000', int8send(n) || $2::bytea from turn`

// insertLoose writes an event of a key whose writers do not take turns.
const insertLoose = `insert into outbox.event (topic, key, type, schema_fp, payload)
	values ('history', $1, 'history.Step', '\x00000000000000000000000000000000', int8send(0))`

func (w *Workload) write(ctx context.Context, conn *pgx.Conn, rng *rand.Rand, i int) error {
	if i == 0 {
		return w.slow(ctx, conn, rng)
	}
	if rng.IntN(100) < 70 {
		if _, err := conn.Exec(ctx, InsertCounted, w.key(rng), padding(rng)); err != nil {
			return err
		}
		w.committed.Add(1)
		return nil
	}
	return w.elaborate(ctx, conn, rng)
}

// elaborate is a transaction with everything that may happen in one.
func (w *Workload) elaborate(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if rng.IntN(3) == 0 { // draws its transaction id long before its row ids
		if _, err := tx.Exec(ctx, `select pg_current_xact_id()`); err != nil {
			return err
		}
		pause(ctx, rng, 15*time.Millisecond)
	}
	if rng.IntN(4) == 0 { // draws a row id before it waits for anybody
		if _, err := tx.Exec(ctx, insertLoose, fmt.Sprintf("loose%d", rng.IntN(5))); err != nil {
			return err
		}
	}
	keys := make([]string, 1+rng.IntN(3))
	for i := range keys {
		keys[i] = w.key(rng)
	}
	slices.Sort(keys) // against deadlocks
	for _, key := range keys {
		if err := w.step(ctx, tx, rng, key); err != nil {
			return err
		}
	}
	if rng.IntN(15) == 0 {
		pause(ctx, rng, 60*time.Millisecond)
	}
	if rng.IntN(8) == 0 {
		w.rolled.Add(1)
		return tx.Rollback(ctx)
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	w.committed.Add(1)
	return nil
}

// step writes one event: plainly, in a savepoint, or after a savepoint that takes one back.
func (w *Workload) step(ctx context.Context, tx pgx.Tx, rng *rand.Rand, key string) error {
	switch rng.IntN(4) {
	case 0:
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := savepoint.Exec(ctx, InsertCounted, key, padding(rng)); err != nil {
			return err
		}
		return savepoint.Commit(ctx)
	case 1:
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := savepoint.Exec(ctx, InsertCounted, key, padding(rng)); err != nil {
			return err
		}
		if err := savepoint.Rollback(ctx); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, InsertCounted, key, padding(rng))
	return err
}

// slow is a long transaction with many events of its own key, spread over its life.
func (w *Workload) slow(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for range 1 + rng.IntN(60) {
		if _, err := tx.Exec(ctx, InsertCounted, "k0", padding(rng)); err != nil {
			return err
		}
		pause(ctx, rng, 20*time.Millisecond)
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	w.committed.Add(1)
	return nil
}

// stranger is a long transaction that has nothing to do with the outbox.
func (w *Workload) stranger(ctx context.Context, conn *pgx.Conn, rng *rand.Rand, _ int) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, `select pg_current_xact_id()`); err != nil {
		return err
	}
	pause(ctx, rng, 500*time.Millisecond)
	if rng.IntN(2) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// key picks a key; a few are hot. k0 is the slow writer's.
func (w *Workload) key(rng *rand.Rand) string {
	if rng.IntN(5) == 0 {
		return fmt.Sprintf("k%d", 1+rng.IntN(4))
	}
	return fmt.Sprintf("k%d", 1+rng.IntN(w.Keys-1))
}

func padding(rng *rand.Rand) []byte { return make([]byte, rng.IntN(200)) }

func pause(ctx context.Context, rng *rand.Rand, most time.Duration) {
	timer := time.NewTimer(time.Duration(rng.Int64N(int64(most))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
