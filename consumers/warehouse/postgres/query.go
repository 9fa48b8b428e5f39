package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/consumers/warehouse"
)

// Query implements warehouse.Querier. Tables without a schema are looked for in silver. The statement runs with the rights of the
// sink's user.
func (w *Warehouse) Query(ctx context.Context, sql string, limits warehouse.Limits) (*warehouse.Result, error) {
	start := time.Now()
	limits = limits.WithDefaults()
	qctx, cancel := context.WithTimeout(ctx, limits.Timeout)
	defer cancel()
	res, err := w.query(qctx, sql, limits)
	if err != nil {
		err = asked(qctx, err)
		if ctx.Err() != nil {
			err = ctx.Err() // the asker's own end, not the limit's
		}
	}
	w.metrics.queries.WithLabelValues(outcome(err)).Inc()
	w.metrics.queryTime.Observe(time.Since(start).Seconds())
	if err != nil {
		return nil, err
	}
	res.Elapsed = time.Since(start)
	return res, nil
}

func outcome(err error) string {
	for name, e := range map[string]error{
		"invalid": warehouse.ErrInvalid, "refused": warehouse.ErrRefused, "timeout": warehouse.ErrTimeout,
		"too_much": warehouse.ErrTooMuch, "busy": warehouse.ErrBusy,
	} {
		if errors.Is(err, e) {
			return name
		}
	}
	if err != nil {
		return "error"
	}
	return "ok"
}

// maxValueBytes is the size of the largest message that an answer may consist of: one row.
const maxValueBytes = 4 * warehouse.MaxBytes

// query answers on a connection of its own: what a statement leaves behind on it ends with it.
func (w *Warehouse) query(ctx context.Context, sql string, limits warehouse.Limits) (res *warehouse.Result, err error) {
	if err := w.enter(); err != nil {
		return nil, err
	}
	defer w.leave()
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return nil, warehouse.ErrBusy
	}
	sql, err = screen(sql)
	if err != nil {
		return nil, err
	}
	conn, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = hangUp(conn) }()
	conn.PgConn().Frontend().SetMaxBodyLen(maxValueBytes)
	return w.answer(ctx, conn, sql, limits)
}

// answer runs a statement that screen has let through, in a transaction that cannot write.
func (w *Warehouse) answer(ctx context.Context, conn *pgx.Conn, sql string, limits warehouse.Limits) (*warehouse.Result, error) {
	pg := conn.PgConn()
	// The server ends a statement by itself a little later than we do: it may be that our word does not reach it.
	settings := fmt.Sprintf("SET statement_timeout = %d; SET search_path = %s, pg_catalog; BEGIN TRANSACTION READ ONLY ISOLATION LEVEL REPEATABLE READ",
		limits.Timeout.Milliseconds()+100, w.space.silver)
	if _, err := pg.Exec(ctx, settings).ReadAll(); err != nil {
		return nil, err
	}
	if err := w.judge(ctx, conn, sql); err != nil {
		return nil, err
	}
	// Nothing but a query can be declared as a cursor, and only one.
	fields, err := describe(ctx, pg, sql)
	if err != nil {
		return nil, err
	}
	res := &warehouse.Result{Columns: make([]string, len(fields)), Types: make([]string, len(fields))}
	for i, f := range fields {
		res.Columns[i] = f.Name
	}
	if err := typeNames(ctx, conn, fields, res); err != nil {
		return nil, err
	}
	forms, err := formsOf(ctx, conn, fields)
	if err != nil {
		return nil, err
	}
	if err := execute(ctx, pg, "DECLARE millrace_query NO SCROLL CURSOR FOR "+wrap(sql, forms)); err != nil {
		return nil, err
	}
	return res, fetch(ctx, pg, forms, limits, res)
}

// describe finds out the columns without running the statement. The extended protocol takes one statement only.
func describe(ctx context.Context, pg *pgconn.PgConn, sql string) ([]pgconn.FieldDescription, error) {
	if _, err := pg.Prepare(ctx, "millrace_guard", "DECLARE millrace_query NO SCROLL CURSOR FOR "+sql, nil); err != nil {
		return nil, err
	}
	d, err := pg.Prepare(ctx, "millrace_query", sql, nil)
	if err != nil {
		return nil, err
	}
	if len(d.ParamOIDs) > 0 {
		return nil, fmt.Errorf("%w: there is nothing to put in the place of $1", warehouse.ErrInvalid)
	}
	return d.Fields, nil
}

func execute(ctx context.Context, pg *pgconn.PgConn, sql string) error {
	_, err := pg.ExecParams(ctx, sql, nil, nil, nil, nil).Close()
	return err
}

// wrap has Postgres write as JSON what the text form of a value would not tell. Columns are named by place: a statement may give two
// the same name.
func wrap(sql string, forms []form) string {
	cols, names := make([]string, len(forms)), make([]string, len(forms))
	for i, f := range forms {
		names[i] = fmt.Sprintf("c%d", i)
		cols[i] = names[i]
		if f == asJSON {
			cols[i] = "pg_catalog.to_json(" + names[i] + ")"
		}
	}
	if len(forms) == 0 {
		return sql
	}
	return fmt.Sprintf("SELECT %s FROM (%s\n) AS q(%s)", strings.Join(cols, ", "), sql, strings.Join(names, ", "))
}

// fetchRows is how many rows are asked for at a time.
const fetchRows = 500

// fetch reads rows up to the limits.
func fetch(ctx context.Context, pg *pgconn.PgConn, forms []form, limits warehouse.Limits, res *warehouse.Result) error {
	size := 0
	for {
		rr := pg.ExecParams(ctx, fmt.Sprintf("FETCH %d FROM millrace_query", fetchRows), nil, nil, nil, nil)
		got := 0
		for rr.NextRow() {
			got++
			if res.Truncated {
				continue // the rest of what was asked for
			}
			row := make([]any, len(forms))
			for i, v := range rr.Values() {
				var n int
				row[i], n = jsonValue(forms[i], v)
				size += n
			}
			if len(res.Rows) == limits.MaxRows || size > limits.MaxBytes {
				res.Truncated = true
				continue
			}
			res.Rows = append(res.Rows, row)
		}
		if _, err := rr.Close(); err != nil {
			return err
		}
		if res.Truncated || got < fetchRows {
			return nil
		}
	}
}
