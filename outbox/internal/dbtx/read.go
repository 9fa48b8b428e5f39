package dbtx

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Querier is the reading half of Tx.
type Querier interface {
	Query(ctx context.Context, scan func(scan func(dest ...any) error) error, query string, args ...any) error
}

// Reader makes a Querier of whatever pgx or database/sql can ask: pools, connections and transactions.
func Reader(db any) (Querier, error) {
	switch db := db.(type) {
	case pgxQueryer:
		return pgxReader{db}, nil
	case sqlQueryer:
		return sqlReader{db}, nil
	}
	return nil, fmt.Errorf("cannot query a %T: want a pool, connection or transaction of pgx or database/sql", db)
}

type pgxQueryer interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

type sqlQueryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

type pgxReader struct{ db pgxQueryer }

func (r pgxReader) Query(ctx context.Context, scan func(func(...any) error) error, query string, args ...any) error {
	rows, err := r.db.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

type sqlReader struct{ db sqlQueryer }

func (r sqlReader) Query(ctx context.Context, scan func(func(...any) error) error, query string, args ...any) error {
	rows, err := r.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // what matters is in rows.Err
	for rows.Next() {
		if err := scan(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
