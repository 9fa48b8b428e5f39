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

	"github.com/millrace/millrace/internal/pace"
	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

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
		if err := pace.Sleep(ctx, lockPause); err != nil {
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
			if err := pace.Keep(ctx, r.began, r.out.Rows, r.cfg.Rate); err != nil {
				return err
			}
		case locked(err):
			// Somebody has a row: take fewer, so that the others are not held meanwhile.
			r.batch = max(1, r.batch/4)
			r.progress(true)
			if err := pace.Sleep(ctx, pause); err != nil {
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
