package shop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/consumers/cache/client"
	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/schemas"
	domain "github.com/millrace/millrace/schemas/shop"
)

// Config says how large the shop is and how busy.
type Config struct {
	// Pool is the shop's database, with the outbox's tables in it. It needs Workers + Readers connections, or the shop waits for
	// them. Required; the caller closes it.
	Pool *pgxpool.Pool
	// Schema is the database schema of the shop's own tables, which it creates. Default "shop".
	Schema string
	// OutboxSchema is the database schema of the outbox. Default "outbox".
	OutboxSchema string
	// Catalogue has the schemas of the events. Default those of schemas/shop.
	Catalogue *schemas.Catalogue

	// Events is the number of events after which Run is done; the last transactions may exceed it. Zero means to go on until the
	// context ends.
	Events int64
	// Rate bounds the events a second. Zero means no bound.
	Rate float64
	// Workers is the number of connections that write. Default 8.
	Workers int
	// Customers and Products are how many there are at first. Defaults 200 and 60.
	Customers, Products int
	// Rollbacks is the share of transactions that roll back, from 0 to 1. Default 0.07; negative means none.
	Rollbacks float64
	// LongTransaction is about how long the transactions take that take their time, one in 400. Default 300 ms; negative means none.
	LongTransaction time.Duration
	// Days is how many days of the shop's calendar Run fills; they end today. Default 14.
	Days int
	// Seed makes two runs do alike, as far as concurrency lets them. Default 1.
	Seed uint64

	// Cache is what the price page reads through. Nil means that nobody visits.
	Cache *client.Client
	// Readers is the number of visitors at once. Default 4.
	Readers int
	// Views bounds the pages a second. Default 400; negative means no bound.
	Views float64
	// Applied tells the row version of a product up to which the cache is known to be invalidated, and false if nothing is known. A
	// page from the cache that is older is stale. Nil means that pages are not checked while Run runs. See AppliedBy.
	Applied func(ctx context.Context, productID string) (rowVersion int64, known bool, err error)

	// Logger receives what an operator should know. Default slog.Default.
	Logger *slog.Logger
}

// WithDefaults returns a copy with zero values replaced.
func (c Config) WithDefaults() Config {
	set(&c.Schema, "shop")
	set(&c.OutboxSchema, "outbox")
	set(&c.Workers, 8)
	set(&c.Customers, 200)
	set(&c.Products, 60)
	set(&c.Rollbacks, 0.07)
	set(&c.LongTransaction, 300*time.Millisecond)
	set(&c.Days, 14)
	set(&c.Seed, 1)
	set(&c.Readers, 4)
	set(&c.Views, 400)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) validate() error {
	switch {
	case c.Pool == nil:
		return errors.New("shop: Pool is missing")
	case c.Events < 0 || c.Rate < 0:
		return fmt.Errorf("shop: Events is %d, Rate is %v", c.Events, c.Rate)
	case c.Workers < 1 || c.Readers < 1 || c.Customers < 1 || c.Products < 2 || c.Days < 1:
		return fmt.Errorf("shop: %d workers, %d readers, %d customers, %d products, %d days: each is at least 1, products 2",
			c.Workers, c.Readers, c.Customers, c.Products, c.Days)
	case c.Rollbacks > 0.9:
		return fmt.Errorf("shop: Rollbacks is %v, at most 0.9", c.Rollbacks)
	}
	return nil
}

// Shop is the application.
type Shop struct {
	cfg      Config
	out      *outbox.Outbox
	emit     string // the outbox's function for other languages
	calendar *calendar
	pace     *pace
	open     *openOrders
	counters counters
	stale    staleLog
	closed   atomic.Bool
}

// Close closes the doors before Events are written: Run returns as soon as the transactions at hand are done.
func (s *Shop) Close() { s.closed.Store(true) }

// New prepares the shop: its tables, its first customers and products, whose events it writes. Tables of an earlier run are gone on
// with. The outbox's tables must be there.
func New(ctx context.Context, cfg Config) (*Shop, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Catalogue == nil {
		var err error
		if cfg.Catalogue, err = schemas.LoadFS(domain.FS); err != nil {
			return nil, fmt.Errorf("shop: %w", err)
		}
	}
	out, err := outbox.New(ctx, cfg.Pool, cfg.Catalogue, outbox.WithSchema(cfg.OutboxSchema))
	if err != nil {
		return nil, fmt.Errorf("shop: %w", err)
	}
	s := &Shop{
		cfg: cfg, out: out,
		emit:     "select " + pgx.Identifier{cfg.OutboxSchema}.Sanitize() + ".emit($1, null, $2)",
		calendar: newCalendar(cfg.Days, cfg.Events),
		pace:     newPace(cfg.Rate),
		open:     &openOrders{},
	}
	if err := s.createTables(ctx); err != nil {
		return nil, fmt.Errorf("shop: create tables: %w", err)
	}
	if err := s.stock(ctx); err != nil {
		return nil, fmt.Errorf("shop: first customers and products: %w", err)
	}
	return s, nil
}

// Run works until the number of events is reached or the context ends, which is no error. Visitors of the price page stop with the
// workers.
func (s *Shop) Run(ctx context.Context) error {
	visiting, close := context.WithCancel(ctx)
	defer close()
	var visitors, workers errgroup.Group
	if s.cfg.Cache != nil {
		views := newPace(max(s.cfg.Views, 0))
		for i := range s.cfg.Readers {
			visitors.Go(func() error { return s.visit(visiting, i, views) })
		}
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	for i := range s.cfg.Workers {
		workers.Go(func() error {
			err := s.work(working, i)
			if err != nil {
				stop() // the first to fail stops the rest
			}
			return err
		})
	}
	err := workers.Wait()
	close()
	return errors.Join(err, visitors.Wait())
}

// Progress is what has happened so far, as the shop was told by its database.
type Progress struct {
	// Events are in committed transactions.
	Events int64
	// Transactions were committed; RolledBack were not, because the shop chose so.
	Transactions, RolledBack int64
	// Retried are transactions that the database ended: deadlocks, lost connections.
	Retried int64
	// Views are price pages shown, Hits those that came from the cache.
	Views, Hits int64
	// Stale are pages from the cache that were shown after their invalidation. There should never be one.
	Stale int64
}

// Progress returns the counters. It is safe for concurrent use.
func (s *Shop) Progress() Progress { return s.counters.read() }

// Stale returns the first stale pages that were shown, 100 at most.
func (s *Shop) Stale() []StalePage { return s.stale.list() }
