package shop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// deed is one transaction in the making.
type deed struct {
	tx     pgx.Tx
	rng    *rand.Rand
	placed []string // orders to remember when it has committed
}

// kinds are what the shop does, and how often of 100.
var kinds = []struct {
	upTo int
	do   func(*Shop, context.Context, *deed) (int, error)
}{
	{26, (*Shop).place},
	{72, (*Shop).advance},
	{90, (*Shop).reprice},
	{94, (*Shop).move},
	{97, (*Shop).rename},
	{100, (*Shop).retire},
}

func (s *Shop) some(ctx context.Context, d *deed) (int, error) {
	roll := d.rng.IntN(100)
	for _, k := range kinds {
		if roll < k.upTo {
			return k.do(s, ctx, d)
		}
	}
	panic("the kinds of deeds do not add up to 100")
}

// errRollback is what a deed ends with that the shop rolls back.
var errRollback = errors.New("rolled back on purpose")

const (
	// retryPause is how long a worker waits after the database has ended its transaction.
	retryPause = 100 * time.Millisecond
	// patience is how long the database may be away.
	patience = time.Minute
)

// work does one deed after the other on behalf of worker i.
func (s *Shop) work(ctx context.Context, i int) error {
	rng := rand.New(rand.NewPCG(s.cfg.Seed, uint64(i)))
	var away time.Time // since when nothing has worked
	for !s.done() {
		err := s.transact(ctx, rng)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			away = time.Time{}
			continue
		case !passes(err):
			return fmt.Errorf("shop: worker %d: %w", i, err)
		case away.IsZero():
			away = time.Now()
			s.cfg.Logger.Warn("the shop's database ended a transaction: trying again", "worker", i, "err", err)
		case time.Since(away) > patience:
			return fmt.Errorf("shop: worker %d: for %v: %w", i, patience, err)
		}
		s.counters.retried.Add(1)
		if pause(ctx, retryPause) != nil {
			return nil
		}
	}
	return nil
}

func (s *Shop) done() bool {
	return s.closed.Load() || s.cfg.Events > 0 && s.counters.events.Load() >= s.cfg.Events
}

// passes reports errors that another try may not meet: lost connections, servers that start or stop, deadlocks.
func passes(err error) bool {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return true // the connection
	}
	switch server.Code[:2] {
	case "08", "40", "53", "57": // connection, transaction rollback, resources, operator intervention
		return true
	}
	return false
}

// transact does one deed in a transaction. What the database holds afterwards is the truth: of a commit whose answer was lost nobody
// here knows.
func (s *Shop) transact(ctx context.Context, rng *rand.Rand) error {
	d := &deed{rng: rng}
	n := 0
	err := pgx.BeginFunc(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
		d.tx = tx
		if err := s.dawdle(ctx, d, 20, 20*time.Millisecond); err != nil {
			return err
		}
		if rng.IntN(25) == 0 {
			if err := s.regret(ctx, d); err != nil {
				return err
			}
		}
		var err error
		if n, err = s.some(ctx, d); err != nil {
			return err
		}
		if err := s.dawdle(ctx, d, 400, s.cfg.LongTransaction); err != nil {
			return err
		}
		if rng.Float64() < s.cfg.Rollbacks {
			return errRollback
		}
		return nil
	})
	if errors.Is(err, errRollback) {
		s.counters.rolledBack.Add(1)
		return nil
	}
	if err != nil {
		return err
	}
	for _, id := range d.placed {
		s.open.add(id)
	}
	s.counters.transactions.Add(1)
	s.counters.events.Add(int64(n))
	return s.pace.wait(ctx, n)
}

// dawdle draws the transaction's id, one time in some, and takes its time.
func (s *Shop) dawdle(ctx context.Context, d *deed, oneIn int, upTo time.Duration) error {
	if upTo <= 0 || d.rng.IntN(oneIn) != 0 {
		return nil
	}
	if _, err := d.tx.Exec(ctx, "select pg_current_xact_id()"); err != nil {
		return err
	}
	return pause(ctx, upTo/2+time.Duration(d.rng.Int64N(int64(upTo))))
}

// regret does something and takes it back, within the transaction.
func (s *Shop) regret(ctx context.Context, d *deed) error {
	savepoint, err := d.tx.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := s.some(ctx, &deed{tx: savepoint, rng: d.rng}); err != nil {
		return err
	}
	return savepoint.Rollback(ctx)
}

// counters are what Progress reads.
type counters struct {
	events, transactions, rolledBack, retried, views, hits, stale atomic.Int64
}

func (c *counters) read() Progress {
	return Progress{
		Events: c.events.Load(), Transactions: c.transactions.Load(), RolledBack: c.rolledBack.Load(), Retried: c.retried.Load(),
		Views: c.views.Load(), Hits: c.hits.Load(), Stale: c.stale.Load(),
	}
}
