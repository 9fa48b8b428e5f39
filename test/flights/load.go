package flights

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Loader writes the events of flights in many concurrent transactions. The events of one flight are written in order, each
// by whichever worker comes along after the transaction of the one before has committed; every transaction holds events of
// many flights; a share is rolled back and tried again; some take their transaction id early and wait.
type Loader struct {
	Pool    *pgxpool.Pool
	Workers int
	Seed    uint64
	// PerTransaction is the most events of one transaction.
	PerTransaction int

	// Committed and RolledBack count events and transactions as they go.
	Committed, RolledBack atomic.Int64
}

// task is a flight and how many of its events are committed.
type task struct {
	events []event
	next   int
}

// errRolledBack ends a transaction that was meant to be rolled back.
var errRolledBack = errors.New("rolled back on purpose")

// Load writes everything and returns the number of committed events.
func (l *Loader) Load(ctx context.Context, flights []Flight) (int64, error) {
	queue := make(chan *task, len(flights))
	var left atomic.Int64
	for _, f := range flights {
		t := &task{events: f.events()}
		left.Add(int64(len(t.events)))
		queue <- t
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for w := range l.Workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(l.Seed, uint64(w)))
			for left.Load() > 0 && ctx.Err() == nil {
				tasks := take(queue, 1+r.IntN(l.PerTransaction))
				if len(tasks) == 0 {
					time.Sleep(time.Millisecond) // the last flights are in other workers' hands
					continue
				}
				if err := l.write(ctx, r, tasks); err != nil && !errors.Is(err, errRolledBack) {
					cancel(err)
					return
				} else if err == nil {
					left.Add(-int64(len(tasks)))
				}
				for _, t := range tasks {
					if t.next < len(t.events) {
						queue <- t
					}
				}
			}
		})
	}
	wg.Wait()
	return l.Committed.Load(), context.Cause(ctx)
}

func take(queue chan *task, n int) []*task {
	var out []*task
	for len(out) < n {
		select {
		case t := <-queue:
			out = append(out, t)
		default:
			return out
		}
	}
	return out
}

// write emits the next event of each task in one transaction.
func (l *Loader) write(ctx context.Context, r *rand.Rand, tasks []*task) error {
	types, keys, bodies := make([]string, len(tasks)), make([]string, len(tasks)), make([]string, len(tasks))
	for i, t := range tasks {
		e := t.events[t.next]
		types[i], keys[i], bodies[i] = e.Type, e.Key, string(e.Body)
	}
	err := pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
		if r.IntN(50) == 0 {
			if _, err := tx.Exec(ctx, "select pg_current_xact_id(), pg_sleep(0.02)"); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "select outbox.emit(t, k, b::jsonb) from unnest($1::text[], $2::text[], $3::text[]) as x(t, k, b)", types, keys, bodies)
		if err != nil {
			return fmt.Errorf("emit: %w", err)
		}
		if r.IntN(20) == 0 {
			return errRolledBack
		}
		return nil
	})
	if err != nil {
		l.RolledBack.Add(1)
		return err
	}
	for _, t := range tasks {
		t.next++
	}
	l.Committed.Add(int64(len(tasks)))
	return nil
}
