package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// BackfillState is how far a backfill has come: a row of the table backfill.
type BackfillState struct {
	Name string
	// Declaration is a digest of what is read and how it becomes events.
	Declaration string
	// Position is the key of the last row read, as text; nil at the beginning.
	Position []string
	Rows     int64
	// Total is how many rows there were when it began; below zero if that is not known.
	Total               int64
	StartedAt, UpdateAt time.Time
	// FinishedAt is zero until the end is reached.
	FinishedAt time.Time
}

// Backfills reads and writes the table backfill of one outbox.
type Backfills struct {
	table  string
	schema string
}

// NewBackfills names the table in a database schema; empty means the default.
func NewBackfills(schema string) (*Backfills, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return nil, err
	}
	return &Backfills{table: quoted + ".backfill", schema: cmp.Or(schema, dbtx.DefaultSchema)}, nil
}

// TryLock takes the lock of a backfill, which lasts as long as the session, and never waits for it.
func (b *Backfills) TryLock(ctx context.Context, conn *pgx.Conn, name string) (ok bool, err error) {
	err = conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", b.lockID(name)).Scan(&ok)
	return ok, err
}

// Unlock gives the lock of a backfill back before its session ends.
func (b *Backfills) Unlock(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, "select pg_advisory_unlock($1)", b.lockID(name))
	return err
}

// Running says whether a session holds the lock of a backfill.
func (b *Backfills) Running(ctx context.Context, conn *pgx.Conn, name string) (yes bool, err error) {
	err = conn.QueryRow(ctx, `
		select exists (select from pg_locks
		 where locktype = 'advisory' and granted and objsubid = 1 and (classid::bigint << 32) | objid::bigint = $1
		   and database = (select oid from pg_database where datname = current_database()))`, b.lockID(name)).Scan(&yes)
	return yes, err
}

func (b *Backfills) lockID(name string) int64 {
	return dbtx.LockID("millrace backfill", b.schema, name)
}

const backfillColumns = "name, declaration, position, rows, coalesce(total, -1), started_at, updated_at, coalesce(finished_at, 'epoch')"

// List returns all backfills by name.
func (b *Backfills) List(ctx context.Context, conn *pgx.Conn) ([]BackfillState, error) {
	rows, err := conn.Query(ctx, "select "+backfillColumns+" from "+b.table+" order by name")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanBackfill)
}

// Read returns one backfill, locked until tx ends; nil if it has not begun.
func (b *Backfills) Read(ctx context.Context, tx pgx.Tx, name string) (*BackfillState, error) {
	rows, err := tx.Query(ctx, "select "+backfillColumns+" from "+b.table+" where name = $1 for update", name)
	if err != nil {
		return nil, err
	}
	st, err := pgx.CollectExactlyOneRow(rows, scanBackfill)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &st, err
}

func scanBackfill(row pgx.CollectableRow) (BackfillState, error) {
	var s BackfillState
	err := row.Scan(&s.Name, &s.Declaration, &s.Position, &s.Rows, &s.Total, &s.StartedAt, &s.UpdateAt, &s.FinishedAt)
	if s.FinishedAt.Unix() == 0 {
		s.FinishedAt = time.Time{}
	}
	return s, err
}

// Begin notes that a backfill begins, or begins anew. total is below zero if it is not known.
func (b *Backfills) Begin(ctx context.Context, tx pgx.Tx, name, declaration string, total int64) error {
	if _, err := tx.Exec(ctx, "delete from "+b.table+" where name = $1", name); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "insert into "+b.table+" (name, declaration, total) values ($1, $2, nullif(greatest($3::bigint, -1), -1))", name, declaration, total)
	return err
}

// Move notes, in the transaction of their events, that rows more were read up to a position, and whether these were the last.
func (b *Backfills) Move(ctx context.Context, tx pgx.Tx, name string, position []string, rows int, finished bool) error {
	tag, err := tx.Exec(ctx, "update "+b.table+` set position = coalesce($2::text[], position), rows = rows + $3, updated_at = clock_timestamp(),
		finished_at = case when $4 then clock_timestamp() end where name = $1`, name, position, rows, finished)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("backfill %s is not in %s any more", name, b.table)
	}
	return err
}

// Reset forgets a backfill, and says whether there was one.
func (b *Backfills) Reset(ctx context.Context, conn *pgx.Conn, name string) (bool, error) {
	tag, err := conn.Exec(ctx, "delete from "+b.table+" where name = $1", name)
	return tag.RowsAffected() > 0, err
}

// NoBackfills says that the table backfill is not there: migrations are pending.
func NoBackfills(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "3F000")
}
