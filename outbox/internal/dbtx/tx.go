package dbtx

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
)

// Pgx makes a Tx of a pgx transaction.
func Pgx(tx pgx.Tx) Tx { return pgxTx{pgxReader{tx}, tx} }

// SQL makes a Tx of a database/sql transaction.
func SQL(tx *sql.Tx) Tx { return sqlTx{sqlReader{tx}, tx} }

type pgxTx struct {
	pgxReader
	tx pgx.Tx
}

func (t pgxTx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	tag, err := t.tx.Exec(ctx, query, args...)
	return tag.RowsAffected(), err
}

type sqlTx struct {
	sqlReader
	tx *sql.Tx
}

func (t sqlTx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
