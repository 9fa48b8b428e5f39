// Package migrate creates and upgrades the tables of an outbox.
//
// The migrations are SQL files compiled into the program. Each one runs in a transaction of its own, under an
// advisory lock, and leaves a row in the table migration with the checksum of its text; any number of programs may
// call Up at the same time. There is no way down: a log is not un-written.
//
//	applied, err := migrate.Up(ctx, pool)
//
// The runner is our own, of two hundred lines, because an application that embeds it should link nothing besides
// pgx, and because the name of the database schema is part of every statement (WithSchema).
//
// # Files
//
//	sql/         the migrations, in order
//	files.go     reads them and puts the schema's name in
//	migrate.go   Up
//	status.go    Status, SQL
package migrate

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// Database is what migrations can be run on. A connection must not be inside a transaction.
type Database interface {
	*pgxpool.Pool | *pgx.Conn | *sql.DB
}

// minServer is the oldest PostgreSQL that works, as server_version_num.
const minServer = 140000

// Option changes where or what is migrated.
type Option func(*config)

type config struct {
	schema string
}

// WithSchema names the database schema that holds the outbox. Default: "outbox". Any name that PostgreSQL accepts
// will do; it is quoted.
func WithSchema(name string) Option {
	return func(c *config) { c.schema = name }
}

// Up applies every migration that has not been applied yet and returns those it applied, in order. A database that
// is up to date is only read. A database that is ahead of this program (an old program starts again during a
// deployment) is left as it is.
//
// Errors: ErrServerTooOld, ErrChanged, ErrInTransaction, or what the database said, wrapped with the migration's name.
func Up[DB Database](ctx context.Context, db DB, opts ...Option) ([]Migration, error) {
	set, err := load(opts)
	if err != nil {
		return nil, err
	}
	var done []Migration
	for {
		m, err := step(ctx, db, set)
		if err != nil {
			return done, err
		}
		if m == nil {
			return done, nil
		}
		done = append(done, *m)
	}
}

// step applies the first pending migration, if there is one.
func step[DB Database](ctx context.Context, db DB, set *set) (*Migration, error) {
	var applied *Migration
	err := dbtx.Run(ctx, db, func(tx dbtx.Tx) error {
		if err := checkServer(ctx, tx); err != nil {
			return err
		}
		next, err := set.pending(ctx, tx)
		if err != nil || next == nil {
			return err
		}
		// Somebody else may be at it: take the lock, then look again.
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", set.lockID()); err != nil {
			return fmt.Errorf("lock migrations: %w", err)
		}
		if next, err = set.pending(ctx, tx); err != nil || next == nil {
			return err
		}
		if err := set.apply(ctx, tx, next); err != nil {
			return err
		}
		applied = &next.Migration
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("migrate %s: %w", set.quoted, err)
	}
	return applied, nil
}

func (s *set) apply(ctx context.Context, tx dbtx.Tx, f *file) error {
	if _, exists, err := s.readApplied(ctx, tx); err != nil {
		return err
	} else if !exists {
		if _, err := tx.Exec(ctx, s.bookkeeping); err != nil {
			return fmt.Errorf("create the table migration: %w", err)
		}
	}
	if _, err := tx.Exec(ctx, f.sql); err != nil {
		return fmt.Errorf("apply %s: %w", f.Migration, err)
	}
	_, err := tx.Exec(ctx, "insert into "+s.quoted+".migration (version, name, checksum) values ($1, $2, $3)",
		f.Version, f.Name, f.Checksum)
	if err != nil {
		return fmt.Errorf("record %s: %w", f.Migration, err)
	}
	return nil
}

// pending returns the first migration that has not been applied, after checking those that have been.
func (s *set) pending(ctx context.Context, tx dbtx.Tx) (*file, error) {
	applied, _, err := s.readApplied(ctx, tx)
	if err != nil {
		return nil, err
	}
	var next *file
	for i := range s.files {
		f := &s.files[i]
		row, ok := applied[f.Version]
		switch {
		case !ok && next == nil:
			next = f
		case ok && row.Checksum != f.Checksum:
			return nil, fmt.Errorf("%w: %s", ErrChanged, f.Migration)
		}
	}
	return next, nil
}

func checkServer(ctx context.Context, tx dbtx.Tx) error {
	var version int
	err := tx.Query(ctx, func(scan func(...any) error) error { return scan(&version) },
		"select current_setting('server_version_num')::int")
	if err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	if version < minServer {
		return fmt.Errorf("%w: it is version %d", ErrServerTooOld, version/10000)
	}
	return nil
}
