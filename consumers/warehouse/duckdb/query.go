//go:build cgo

package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers/warehouse"
)

// Query implements warehouse.Querier. Tables without a schema are looked for in silver.
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
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	err = conn.Raw(func(c any) error {
		res, err = answer(ctx, c.(*duckdb.Conn), sql, limits)
		return err
	})
	return res, err
}

// answer runs one statement in a transaction that cannot write.
func answer(ctx context.Context, conn *duckdb.Conn, sql string, limits warehouse.Limits) (res *warehouse.Result, err error) {
	if err := guard(ctx, conn, sql); err != nil {
		return nil, err
	}
	if err := execute(ctx, conn, "USE silver"); err != nil {
		return nil, err
	}
	if err := execute(ctx, conn, "BEGIN TRANSACTION READ ONLY"); err != nil {
		return nil, err
	}
	defer func() {
		if rerr := execute(context.WithoutCancel(ctx), conn, "ROLLBACK"); rerr != nil {
			err = errors.Join(err, driver.ErrBadConn, rerr) // such a connection does not go back to the pool
		}
	}()
	sql = strings.TrimRight(strings.TrimSpace(sql), "; \n\t\r")
	res = &warehouse.Result{}
	if err := describe(ctx, conn, sql, res); err != nil {
		return nil, err
	}
	bytes := 0
	err = rowsOf(ctx, conn, wrap(sql, res.Types, limits.MaxRows), nil, func(row []driver.Value) error {
		out := make([]any, len(row))
		for i, v := range row {
			var size int
			out[i], size = jsonValue(res.Types[i], v)
			bytes += size
		}
		if len(res.Rows) == limits.MaxRows || bytes > limits.MaxBytes {
			res.Truncated = true
			return errEnough
		}
		res.Rows = append(res.Rows, out)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return res, nil
}

// errEnough ends the reading of a result that is longer than its limits.
var errEnough = errors.New("enough")

// describe finds the columns' names and types without running the statement.
func describe(ctx context.Context, conn *duckdb.Conn, sql string, res *warehouse.Result) error {
	return rowsOf(ctx, conn, "DESCRIBE FROM ("+sql+"\n)", nil, func(row []driver.Value) error {
		name, _ := row[0].(string)
		typ, _ := row[1].(string)
		res.Columns, res.Types = append(res.Columns, name), append(res.Types, typ)
		return nil
	})
}

// wrap limits the rows, so that DuckDB makes no more than are wanted, and has it write as text what the driver would not hand over
// exactly. Columns are named by place: a statement may give two the same name.
func wrap(sql string, types []string, maxRows int) string {
	cols, names := make([]string, len(types)), make([]string, len(types))
	for i, t := range types {
		names[i] = fmt.Sprintf("c%d", i)
		switch formOf(t) {
		case asDriver:
			cols[i] = names[i]
		case asText:
			cols[i] = "CAST(" + names[i] + " AS VARCHAR)"
		case asJSON:
			cols[i] = "CAST(to_json(" + names[i] + ") AS VARCHAR)"
		}
	}
	return fmt.Sprintf("SELECT %s FROM (%s\n) AS q(%s) LIMIT %d", strings.Join(cols, ", "), sql, strings.Join(names, ", "), maxRows+1)
}
