package outbox

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

// Database is what New, Push and List work on. They begin transactions of their own, so a transaction is not one.
type Database interface {
	*pgxpool.Pool | *pgx.Conn | *sql.DB
}

// Outbox writes events. Make one at the start of a program and share it; it is safe for concurrent use and holds no
// connection.
type Outbox struct {
	types       map[string]*eventType // by name; never changed
	inserter    *store.Inserter
	limits      Limits
	fromContext func(context.Context) map[string]string
	observer    Observer
}

// Option changes how an outbox works.
type Option func(*options)

type options struct {
	schema      string
	limits      Limits
	fromContext func(context.Context) map[string]string
	observer    Observer
}

// WithSchema names the database schema in which the outbox is. Default: "outbox".
func WithSchema(name string) Option { return func(o *options) { o.schema = name } }

// WithLimits changes what Write accepts. Fields that are zero keep their defaults.
func WithLimits(l Limits) Option { return func(o *options) { o.limits = l } }

// WithHeaders gives every event the headers that from finds in the context of Write: the trace context, the tenant,
// the user. It is called once for each Write. What it returns is held against the same rules as an event's own
// headers, so return only what is to travel.
func WithHeaders(from func(ctx context.Context) map[string]string) Option {
	return func(o *options) { o.fromContext = from }
}

// WithObserver has every Write reported to obs.
func WithObserver(obs Observer) Option { return func(o *options) { o.observer = obs } }

// New prepares an outbox for the event types of a catalogue, and stores their schemas if they are not stored yet: see
// Push. The tables must be there (package migrate).
//
// Promise 1: schemas are stored here, in a transaction of New's own on db, and never inside one of the caller's. A
// rollback would lose what the process from then on believes is stored.
func New[DB Database](ctx context.Context, db DB, catalogue *schemas.Catalogue, opts ...Option) (*Outbox, error) {
	o, err := prepare(catalogue, opts)
	if err != nil {
		return nil, err
	}
	if _, err := Push(ctx, db, catalogue, opts...); err != nil {
		return nil, err
	}
	return o, nil
}

// prepare is New without the database.
func prepare(catalogue *schemas.Catalogue, opts []Option) (*Outbox, error) {
	var cfg options
	for _, opt := range opts {
		opt(&cfg)
	}
	inserter, err := store.NewInserter(cfg.schema)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	o := &Outbox{
		types:       map[string]*eventType{},
		inserter:    inserter,
		limits:      cfg.limits.withDefaults(),
		fromContext: cfg.fromContext,
		observer:    cfg.observer,
	}
	for _, s := range catalogue.All() {
		if o.types[s.Name], err = newEventType(s); err != nil {
			return nil, err
		}
	}
	return o, nil
}
