package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// PublishedRows says which rows have been published: those that Last sees, and those up to Position that Upper sees. A zero Upper
// stands between windows.
type PublishedRows struct {
	Last, Upper Snapshot
	Position    int64
}

// Selected selects among the rows that are in the table and were published.
type Selected struct {
	Published PublishedRows
	// Key and Type select; empty for all. From and Until are times of occurrence, until exclusive; zero for no bound.
	Key, Type   string
	From, Until time.Time
}

// LastRetained returns the highest id in the table; 0 if it is empty.
func LastRetained(ctx context.Context, conn *pgx.Conn, schema string) (id int64, err error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, `select coalesce(max(id), 0) from `+quoted+`.event`).Scan(&id)
	return id, wrapRead(err, "look for the last retained row")
}

// CountRetained counts the rows from one id to another, whatever they are.
func CountRetained(ctx context.Context, conn *pgx.Conn, schema string, from, to int64) (n int64, err error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, `select count(*) from `+quoted+`.event e where e.id >= $1 and e.id <= $2`, from, to).Scan(&n)
	return n, wrapRead(err, "count the retained rows")
}

// Stretch returns the id of the n-th row from the given one on, or of the last one up to `to`, and how many rows there are up to it. A
// stretch without rows ends at `to`.
func Stretch(ctx context.Context, conn *pgx.Conn, schema string, from, to int64, n int) (end, rows int64, err error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return 0, 0, err
	}
	err = conn.QueryRow(ctx, `select coalesce(max(s.id), $2), count(*) from (
		select e.id from `+quoted+`.event e where e.id >= $1 and e.id <= $2 order by e.id limit $3) s`, from, to, n).Scan(&end, &rows)
	return end, rows, wrapRead(err, "look for the next retained rows")
}

// ReadRetained reads the selected rows from one id to another, at most limit of them and about maxBytes, by id. more says that
// there may be further ones behind the last. Rows that were removed in between are simply not there: compare Ring.Floor afterwards.
func ReadRetained(ctx context.Context, conn *pgx.Conn, schema string, s Selected, from, to int64, limit, maxBytes int) (page Page, more bool, err error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return Page{}, false, err
	}
	query, args := s.query(quoted, from, to, limit)
	rows, err := conn.Query(ctx, query, append([]any{pgx.QueryExecModeCacheDescribe, pgx.QueryResultFormats{pgx.BinaryFormatCode}}, args...)...)
	if err != nil {
		return Page{}, false, fmt.Errorf("read retained rows from %d on: %w", from, err)
	}
	cut := false
	page, err = new(decoder).page(rows, limit, maxBytes, func() { cut = true })
	if err != nil {
		return Page{}, false, fmt.Errorf("read retained rows from %d on: %w", from, err)
	}
	return page, cut || len(page.Events) == limit, nil
}

func (s Selected) query(quoted string, from, to int64, limit int) (string, []any) {
	upper := "1:1:"
	if !s.Published.Upper.IsZero() {
		upper = s.Published.Upper.String()
	}
	last := "1:1:"
	if !s.Published.Last.IsZero() {
		last = s.Published.Last.String()
	}
	args := []any{from, to, last, upper, s.Published.Position, limit}
	var where strings.Builder
	and := func(condition string, value any) {
		args = append(args, value)
		fmt.Fprintf(&where, " and "+condition, len(args))
	}
	if s.Key != "" {
		and("e.key = $%d::text", s.Key)
	}
	if s.Type != "" {
		and("e.type = $%d::text", s.Type)
	}
	if !s.From.IsZero() {
		and("e.occurred_at >= $%d::timestamptz", s.From)
	}
	if !s.Until.IsZero() {
		and("e.occurred_at < $%d::timestamptz", s.Until)
	}
	return `select ` + eventColumnsSQL + ` from ` + quoted + `.event e where e.id >= $1::bigint and e.id <= $2::bigint
		and (pg_visible_in_snapshot(e.xid, (select $3::text::pg_snapshot))
			or e.id <= $5::bigint and pg_visible_in_snapshot(e.xid, (select $4::text::pg_snapshot)))` + where.String() + `
		order by e.id limit $6::int`, args
}

func wrapRead(err error, doing string) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%s: %w", doing, err)
}
