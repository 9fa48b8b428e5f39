package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/schemas"
)

// writers write events through package outbox, as an application does: BEGIN, one INSERT, COMMIT, each waited for. A writer has
// keys of its own, so that the order within a key is that of the events' numbers.
type writers struct {
	site  *site
	out   *outbox.Outbox
	perTx int
	// before, if set, is called before a transaction with the numbers of its events.
	before func(ctx context.Context, numbers []int64) error
	// limit is the first number that is not given to an event.
	limit int64
	// commits holds, by event, when its COMMIT was sent, in nanoseconds; nil if nobody asks.
	commits []atomic.Int64
	written atomic.Int64
	last    [writerCount]int64 // rounds a writer has made so far; each is the writer's own
}

// writerCount is the number of writers and of their connections; it divides the number of keys.
const writerCount = 4

// newWriters makes writers for at most limit events.
func (s *site) newWriters(ctx context.Context, perTx int, limit int64, stamp bool) (*writers, error) {
	catalogue, err := schemas.NewCatalogue(s.rig.maker.schema)
	if err != nil {
		return nil, fmt.Errorf("make a catalogue: %w", err)
	}
	out, err := outbox.New(ctx, s.pool, catalogue)
	if err != nil {
		return nil, err
	}
	w := &writers{site: s, out: out, perTx: perTx, limit: limit}
	if stamp {
		w.commits = make([]atomic.Int64, limit)
	}
	return w, nil
}

// run writes until the time is over: rate events a second altogether, or as many as go if rate is 0. It returns how many events
// were written.
func (w *writers) run(ctx context.Context, rate int, length time.Duration) (int64, error) {
	before, end := w.written.Load(), time.Now().Add(length)
	tell := w.site.rig.progress(func() string {
		return fmt.Sprintf("writing: %s events, %.0f s to go", thousands(w.written.Load()-before), max(0, time.Until(end).Seconds()))
	})
	defer tell()
	var all sync.WaitGroup
	var errs [writerCount]error
	for i := range errs {
		all.Go(func() { errs[i] = w.one(ctx, i, rate, end) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, fmt.Errorf("write events: %w", err)
		}
	}
	return w.written.Load() - before, nil
}

// one is a writer. It keeps to its times: what is late is written at once, so that the rate holds.
func (w *writers) one(ctx context.Context, index, rate int, end time.Time) error {
	conn, err := w.site.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	r := rand.New(rand.NewPCG(3, uint64(index)))
	var every time.Duration
	if rate > 0 {
		every = time.Duration(writerCount*w.perTx) * time.Second / time.Duration(rate)
	}
	next := time.Now().Add(every * time.Duration(index) / writerCount)
	events, numbers := make([]outbox.Event, w.perTx), make([]int64, w.perTx)
	for {
		if every > 0 {
			time.Sleep(time.Until(next))
			next = next.Add(every)
		}
		if !time.Now().Before(end) {
			return ctx.Err()
		}
		for i := range events {
			numbers[i] = int64(index) + writerCount*w.last[index]
			if numbers[i] >= w.limit {
				return fmt.Errorf("more than %d events", w.limit)
			}
			w.last[index]++
			events[i] = w.event(r, numbers[i])
		}
		if err := w.commit(ctx, conn.Conn(), events, numbers); err != nil {
			return err
		}
	}
}

func (w *writers) event(r *rand.Rand, n int64) outbox.Event {
	o := randomOrder(r)
	o.N, o.Stamp = n, time.Now().UnixNano()
	return outbox.Envelope{Event: o, Key: keyOf(n), Topic: w.site.topic}
}

// commit writes one transaction. The time that counts is taken before the COMMIT is sent: what the commit itself takes, waiting
// for the disk above all, is part of every latency.
func (w *writers) commit(ctx context.Context, conn *pgx.Conn, events []outbox.Event, numbers []int64) error {
	if w.before != nil {
		if err := w.before(ctx, numbers); err != nil {
			return err
		}
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // an error after Commit
	if err := w.out.Write(ctx, tx, events...); err != nil {
		return err
	}
	if w.commits != nil {
		now := time.Now().UnixNano()
		for _, n := range numbers {
			w.commits[n].Store(now)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	w.written.Add(int64(len(events)))
	return nil
}
