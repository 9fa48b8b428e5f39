// Package backfill makes the first load of an outbox from tables that were there before it: every row becomes a snapshot event, written
// through the outbox like any other.
//
// # What holds
//
// Each batch is one transaction at READ COMMITTED. It locks its rows (FOR SHARE), reads them as they are committed, writes their events,
// and moves a cursor row. So:
//
//  1. A row that is there from the beginning to the end becomes exactly one event, whatever is killed in between.
//  2. Promise 2: a snapshot never takes the place of something newer. Whoever changes a row has its lock until his transaction ends, and
//     draws the id of his event while he has it; so does the backfill. The snapshot of a row is thus either before his event, or after it
//     and made of what he committed.
//  3. Writers go on. One that needs a row of the batch waits for the batch to commit, milliseconds. The backfill never waits long for a
//     lock, so that in a deadlock it is the one that gives way.
//
// What writers must do: write an event for every change of a row, in the same transaction and after the statement that changed or locked
// the row (INSERT, UPDATE, DELETE, SELECT FOR UPDATE), and must have begun to do so, all of them, before the backfill begins. Where a
// writer writes its event first and changes the row then, the snapshot may stand behind the event and hold the state before it: a sink
// keeps the old state until the next event of the key. Where a writer writes no event, a sink has what the backfill saw, if it saw the row.
//
// # Files, in the order in which a row passes them
//
//	backfill.go  Config, Run: a batch, a transaction, the next one
//	source.go    what is read: a table or a query, its columns and its keys
//	row.go       a row becomes an event
//	state.go     how far it is: List, Reset
package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

// Config declares a backfill.
type Config struct {
	// Name is under which it is remembered, and the value of the header millrace-snapshot. Required.
	Name string
	// Schema is the database schema of the outbox. Default: "outbox".
	Schema string
	// Table is read; or Query, a SELECT without locks or a limit of its own, whose tables are locked row by row as they are read.
	// One of the two is required.
	Table, Query string
	// Key names the columns that rows are read in the order of: not null, unique together, and never changed by writers. Required.
	Key []string
	// Type is the event that a row becomes. Required.
	Type string
	// Fields gives fields of the event the columns they are taken from. Default: the column of the same name.
	Fields map[string]string
	// Headers are given to every event.
	Headers map[string]string
	// Batch is how many rows a transaction locks at most. Default 500.
	Batch int
	// Rate bounds the rows a second; 0 for no bound.
	Rate int
	// Catalogue holds the schema of Type. Required.
	Catalogue *schemas.Catalogue
	// DryRun reads every row and checks its event, locks nothing and writes nothing.
	DryRun bool
	// Progress is told after each batch; nil for nobody.
	Progress func(Progress)
}

const (
	defaultBatch = 500
	maxBatch     = 5000
)

// Progress is how far a run is.
type Progress struct {
	// Rows were read of Total, since the beginning of the backfill; Total is below zero if it is not known.
	Rows, Total int64
	// Rate is rows a second in this run.
	Rate float64
	// Waits says that somebody else has a row of the next batch locked.
	Waits bool
}

// Result is what a run did.
type Result struct {
	Name   string `json:"name"`
	DryRun bool   `json:"dry_run,omitempty"`
	// Rows were read by this run and Before by those that it went on with. Each is an event now (with DryRun: would be), but for
	// those that are Unfit.
	Rows   int64 `json:"rows"`
	Before int64 `json:"before,omitempty"`
	// Finished says that the end was reached. If not, running it again goes on.
	Finished bool `json:"finished"`
	// Already says that it had been finished before, and nothing was done.
	Already bool `json:"already,omitempty"`
	// Unfit counts rows that cannot become events, and Faults tells of the first hundred: DryRun only.
	Unfit   int64   `json:"unfit,omitempty"`
	Faults  []Fault `json:"faults,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Fault is a row that cannot become an event.
type Fault struct {
	Key    []string `json:"key"`
	Reason string   `json:"reason"`
}

// Errors of Run; ask with errors.Is.
var (
	// ErrRunning: another session runs this backfill.
	ErrRunning = errors.New("it runs already, in another session")
	// ErrChanged: it was begun by another declaration.
	ErrChanged = errors.New("it was begun by another declaration")
	// ErrNotMigrated: the table of backfills is not there.
	ErrNotMigrated = errors.New(`the table of backfills is missing: run "millrace migrate up"`)
	// ErrUnfit: a row cannot become an event; the error is a *RowError.
	ErrUnfit = errors.New("a row does not fit")
)

// DeclarationError is about the Config; Field is the setting as files spell it.
type DeclarationError struct{ Field, Reason string }

// Error returns "field: reason".
func (e *DeclarationError) Error() string { return e.Field + ": " + e.Reason }

func wrong(field, format string, args ...any) error {
	return &DeclarationError{field, fmt.Sprintf(format, args...)}
}

// Check says what is wrong with a declaration as far as that can be seen without a database.
func (c Config) Check() error {
	switch {
	case c.Name == "":
		return wrong("name", "is missing")
	case (c.Table == "") == (c.Query == ""):
		return wrong("table", "say what is read: table or query, one of them")
	case len(c.Key) == 0:
		return wrong("key", "is missing: the columns that tell one row from another, such as [id]")
	case c.Type == "":
		return wrong("type", "is missing: the event that a row becomes, such as shop.OrderSaved")
	case c.Batch < 0 || c.Batch > maxBatch:
		return wrong("batch", "%d is not between 1 and %d rows", c.Batch, maxBatch)
	case c.Rate < 0:
		return wrong("rate", "%d is no number of rows a second", c.Rate)
	}
	for i, k := range c.Key {
		if k == "" || slices.Contains(c.Key[:i], k) {
			return wrong("key", "column %q is empty or there twice", k)
		}
	}
	if _, ok := c.Headers[outbox.HeaderSnapshot]; ok {
		return wrong("headers", "%s is given by itself", outbox.HeaderSnapshot)
	}
	schema, ok := c.Catalogue.Lookup(c.Type)
	if !ok {
		return wrong("type", "no schema %s in the folders of schemas", c.Type)
	}
	_, err := newShape(c, schema)
	return err
}

// Run goes on with a backfill, from its beginning or where it was left, to its end. conn is for it alone, direct and not through a pooler
// in transaction mode, and holds the lock until it is closed.
func Run(ctx context.Context, conn *pgx.Conn, cfg Config) (Result, error) {
	cfg.Batch = cmp.Or(cfg.Batch, defaultBatch)
	if cfg.Progress == nil {
		cfg.Progress = func(Progress) {}
	}
	r := &run{cfg: cfg, conn: conn, out: Result{Name: cfg.Name, DryRun: cfg.DryRun}, began: time.Now(), batch: cfg.Batch, total: -1}
	err := r.open(ctx)
	if err == nil && !r.out.Already {
		if cfg.DryRun {
			err = r.rehearse(ctx)
		} else {
			err = r.load(ctx)
		}
	}
	r.out.Seconds = time.Since(r.began).Seconds()
	if err != nil {
		err = fmt.Errorf("backfill %s: %w", cfg.Name, err)
	}
	return r.out, err
}

type run struct {
	cfg    Config
	conn   *pgx.Conn
	states *store.Backfills
	source *source
	out    Result
	began  time.Time

	writer   *outbox.Outbox  // nil in a dry run
	checker  *outbox.Checker // in a dry run
	position []string
	total    int64
	batch    int // rows of the next one: fewer while others have rows locked
}

func (r *run) open(ctx context.Context) error {
	if err := r.cfg.Check(); err != nil {
		return err
	}
	schema, _ := r.cfg.Catalogue.Lookup(r.cfg.Type)
	only, err := schemas.NewCatalogue(schema)
	if err != nil {
		return err
	}
	if r.states, err = store.NewBackfills(r.cfg.Schema); err != nil {
		return err
	}
	// Keys are compared as text of the session and back: the same in every run.
	if _, err := r.conn.Exec(ctx, "set datestyle = 'ISO'; set timezone = 'UTC'; set intervalstyle = 'postgres'; set extra_float_digits = 1; set bytea_output = 'hex'"); err != nil {
		return err
	}
	if r.source, err = openSource(ctx, r.conn, r.cfg, schema); err != nil {
		return err
	}
	if r.cfg.DryRun {
		r.checker, err = outbox.NewChecker(only)
		return err
	}
	if err := lock(ctx, r.states, r.conn, r.cfg.Name); err != nil {
		return err
	}
	if r.writer, err = outbox.New(ctx, r.conn, only, outbox.WithSchema(r.cfg.Schema)); err != nil {
		return err
	}
	return r.begin(ctx)
}

// A session that was killed holds its lock until the server has noticed.
const (
	lockTries = 25
	lockPause = 200 * time.Millisecond
)

// lock takes the lock of a backfill for as long as the session lasts.
func lock(ctx context.Context, states *store.Backfills, conn *pgx.Conn, name string) error {
	for try := 0; ; try++ {
		ok, err := states.TryLock(ctx, conn, name)
		if err != nil || ok {
			return err
		}
		if try == lockTries {
			return ErrRunning
		}
		if err := sleep(ctx, lockPause); err != nil {
			return err
		}
	}
}

// begin finds out where it was left, or notes that it begins.
func (r *run) begin(ctx context.Context) error {
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		st, err := r.states.Read(ctx, tx, r.cfg.Name)
		if store.NoBackfills(err) {
			return ErrNotMigrated
		}
		if err != nil {
			return fmt.Errorf("read how far it is: %w", err)
		}
		if st == nil || st.Rows == 0 && st.FinishedAt.IsZero() {
			r.total = r.source.count(ctx, tx)
			return r.states.Begin(ctx, tx, r.cfg.Name, r.source.digest, r.total)
		}
		if st.Declaration != r.source.digest {
			return fmt.Errorf("%w: put it back, or \"millrace backfill %s reset\" and begin anew", ErrChanged, r.cfg.Name)
		}
		r.position, r.total, r.out.Before = st.Position, st.Total, st.Rows
		r.out.Finished, r.out.Already = !st.FinishedAt.IsZero(), !st.FinishedAt.IsZero()
		return nil
	})
}

// load writes batch after batch until there are no more rows.
func (r *run) load(ctx context.Context) error {
	pause := minPause
	for !r.out.Finished {
		err := r.step(ctx)
		switch {
		case err == nil:
			r.batch, pause = min(2*r.batch, r.cfg.Batch), minPause
			r.progress(false)
			if err := r.pace(ctx); err != nil {
				return err
			}
		case locked(err):
			// Somebody has a row: take fewer, so that the others are not held meanwhile.
			r.batch = max(1, r.batch/4)
			r.progress(true)
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			pause = min(2*pause, maxPause)
		default:
			return err
		}
	}
	return nil
}

// Writers are not to wait for the backfill, nor to be ended in a deadlock with it: it gives way long before Postgres looks for one, after
// a second by default.
const (
	lockTimeout = "200ms"
	minPause    = 20 * time.Millisecond
	maxPause    = time.Second
)

// locked says that another transaction has a row, or that they waited for each other.
func locked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "55P03" || pg.Code == "40P01" || pg.Code == "40001")
}

// step is one batch: one transaction.
//
// Promise 2: rows are locked before the ids of their events are drawn, and read as they are once they are locked.
func (r *run) step(ctx context.Context) error {
	var p page
	err := pgx.BeginTxFunc(ctx, r.conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local lock_timeout = '"+lockTimeout+"'"); err != nil {
			return err
		}
		st, err := r.states.Read(ctx, tx, r.cfg.Name)
		if err != nil {
			return fmt.Errorf("read how far it is: %w", err)
		}
		if st == nil || !slices.Equal(st.Position, r.position) {
			return fmt.Errorf("%w: it has moved on, or was reset, meanwhile", ErrRunning)
		}
		if p, err = r.source.read(ctx, tx, r.position, r.batch, true); err != nil {
			return err
		}
		events := make([]outbox.Event, len(p.rows))
		for i := range p.rows {
			events[i] = p.rows[i].record
		}
		if err := r.writer.Write(ctx, tx, events...); err != nil {
			return p.blame(err)
		}
		return r.states.Move(ctx, tx, r.cfg.Name, p.last(r.position), len(p.rows), p.end)
	})
	if err == nil {
		r.position, r.out.Rows, r.out.Finished = p.last(r.position), r.out.Rows+int64(len(p.rows)), p.end
	}
	return err
}

// maxFaults is how many unfit rows are told of; all are counted.
const maxFaults = 100

// rehearse reads everything and checks the events.
func (r *run) rehearse(ctx context.Context) error {
	r.total = r.source.count(ctx, r.conn)
	for !r.out.Finished {
		p, err := r.source.read(ctx, r.conn, r.position, r.cfg.Batch, false)
		if err != nil {
			return err
		}
		for i := range p.rows {
			if err := r.checker.Check(ctx, p.rows[i].record); err != nil {
				if r.out.Unfit++; len(r.out.Faults) < maxFaults {
					r.out.Faults = append(r.out.Faults, Fault{p.rows[i].key, reason(err)})
				}
			}
		}
		r.position, r.out.Rows, r.out.Finished = p.last(r.position), r.out.Rows+int64(len(p.rows)), p.end
		r.progress(false)
	}
	return nil
}

func (r *run) progress(waits bool) {
	r.cfg.Progress(Progress{Rows: r.out.Before + r.out.Rows, Total: r.total, Waits: waits, Rate: float64(r.out.Rows) / max(time.Since(r.began).Seconds(), 0.001)})
}

// pace waits until what was read is due.
func (r *run) pace(ctx context.Context) error {
	if r.cfg.Rate <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, time.Until(r.began.Add(time.Duration(float64(r.out.Rows)/float64(r.cfg.Rate)*float64(time.Second)))))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
