// Package dbtx runs short transactions of our own on whatever handle the user has: a pgx pool, a pgx connection or
// a database/sql pool. It is for what must not happen in the user's transaction: storing schemas, migrating.
package dbtx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Handle is a database that a transaction can be begun on. A transaction is not a Handle.
type Handle interface {
	*pgxpool.Pool | *pgx.Conn | *sql.DB
}

// ErrInTransaction says that a connection was handed over in the middle of a transaction.
var ErrInTransaction = errors.New("the connection is inside a transaction")

// Tx is the transaction that a function given to Run works in.
type Tx interface {
	// Exec runs one statement, or several without arguments, and returns the number of rows it touched.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	// Query calls a function for every row of the result, with that row's Scan.
	Querier
}

// rollbackTimeout bounds the rollback after a failure: the caller's context may be over by then.
const rollbackTimeout = 5 * time.Second

// Run begins a transaction on db, calls fn in it, and commits if fn returns nil.
func Run[DB Handle](ctx context.Context, db DB, fn func(Tx) error) error {
	switch db := any(db).(type) {
	case *pgx.Conn:
		if db.PgConn().TxStatus() != 'I' {
			return ErrInTransaction
		}
		return runPgx(ctx, db, fn)
	case *pgxpool.Pool:
		return runPgx(ctx, db, fn)
	case *sql.DB:
		return runSQL(ctx, db, fn)
	default:
		return fmt.Errorf("no transactions on %T", db)
	}
}

type pgxBeginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

func runPgx(ctx context.Context, db pgxBeginner, fn func(Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := fn(Pgx(tx)); err != nil {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		return errors.Join(err, unlessClosed(tx.Rollback(after)))
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func runSQL(ctx context.Context, db *sql.DB, fn func(Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := fn(SQL(tx)); err != nil {
		return errors.Join(err, unlessClosed(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// unlessClosed hides the complaint that a connection which broke in the transaction cannot be rolled back.
func unlessClosed(err error) error {
	if errors.Is(err, pgx.ErrTxClosed) || errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}
