//go:build cgo

package duckdb

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/warehouse"
	"github.com/millrace/millrace/consumers/warehouse/gold"
)

var _ gold.Engine = (*Gold)(nil)

// Gold builds the models of gold in the warehouse, beside the one goroutine that writes: it reads silver as of one moment, and writes to tables
// that nobody else writes to.
type Gold struct {
	w    *Warehouse
	busy sync.Mutex // held by the transaction at work

	mu   sync.Mutex // guards the following
	made bool       // the schemas are there
}

// Gold returns the engine for gold's models. The warehouse has one: all callers get the same.
func (w *Warehouse) Gold() (gold.Engine, error) {
	base := filepath.Base(w.path)
	if name := strings.ToLower(strings.TrimSuffix(base, filepath.Ext(base))); name == "gold" || name == "gold_base" {
		return nil, consumers.AsSystemic(fmt.Errorf("a warehouse with gold cannot be a file called %s, which is a schema in it: rename it", base))
	}
	return w.gold, nil
}

// Quote implements gold.Names.
func (*Gold) Quote(name string) string { return quote(name) }

// Input implements gold.Names.
func (*Gold) Input(input string) string {
	layer, name, _ := strings.Cut(input, ".")
	return layer + "." + quote(name)
}

// Base implements gold.Engine.
func (*Gold) Base(name string) string { return "gold_base." + quote(name) }

// Temp implements gold.Engine.
func (*Gold) Temp(name string) string { return "temp." + quote(name) }

// Meta implements gold.Engine.
func (*Gold) Meta(name string) string { return "millrace." + quote(name) }

var goldStatements = []string{
	`CREATE SCHEMA IF NOT EXISTS gold`,
	`CREATE SCHEMA IF NOT EXISTS gold_base`,
	`CREATE TABLE IF NOT EXISTS millrace.gold (model VARCHAR NOT NULL, record VARCHAR NOT NULL)`,
}

// InPlace implements gold.Engine: what a reader of DuckDB sees of views and tables is as old as what it sees of rows.
func (*Gold) InPlace() bool { return false }

// Look implements gold.Engine.
func (g *Gold) Look(ctx context.Context, f func(gold.Tx) error) error {
	if err := g.w.enter(); err != nil {
		return err
	}
	defer g.w.leave()
	conn, err := g.w.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	return conn.Raw(func(c any) error {
		conn := c.(*duckdb.Conn)
		if err := g.prepare(ctx, conn); err != nil {
			return err
		}
		return g.transaction(ctx, conn, f)
	})
}

// Transaction implements gold.Engine. DuckDB's transactions see the database as it was when they began.
func (g *Gold) Transaction(ctx context.Context, f func(gold.Tx) error) error {
	if !g.busy.TryLock() {
		return gold.ErrBusy
	}
	defer g.busy.Unlock()
	return g.Look(ctx, f)
}

// prepare makes the schemas, and has names without a schema mean nothing: a query may have left the connection looking into silver.
func (g *Gold) prepare(ctx context.Context, conn *duckdb.Conn) error {
	if err := execute(ctx, conn, "USE main"); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made {
		return nil
	}
	for _, s := range goldStatements {
		if err := execute(ctx, conn, s); err != nil {
			return fmt.Errorf("make the schemas of gold: %w", err)
		}
	}
	g.made = true
	return nil
}

func (g *Gold) transaction(ctx context.Context, conn *duckdb.Conn, f func(gold.Tx) error) (err error) {
	if err := execute(ctx, conn, "BEGIN TRANSACTION"); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		if rerr := execute(context.WithoutCancel(ctx), conn, "ROLLBACK"); rerr != nil && !strings.Contains(rerr.Error(), "no transaction is active") {
			err = errors.Join(err, driver.ErrBadConn, rerr) // such a connection does not go back to the pool
		}
	}()
	if err := f(&goldTx{conn}); err != nil {
		return err
	}
	return execute(ctx, conn, "COMMIT")
}

var lineOf = regexp.MustCompile(`(?s)\n+LINE (\d+):.*$`)

// Explain implements gold.Engine.
func (*Gold) Explain(err error) (text string, line int, transient bool) {
	var at *parseError
	var derr *duckdb.Error
	switch {
	case err == nil:
		return "", 0, false
	case errors.As(err, &at):
		return at.reason, at.line, false
	case errors.Is(err, warehouse.ErrRefused), errors.Is(err, warehouse.ErrInvalid):
		return err.Error(), 0, false
	case !errors.As(err, &derr):
		return err.Error(), 0, !errors.Is(err, ErrClosed)
	}
	switch derr.Type {
	case duckdb.ErrorTypeOutOfMemory, duckdb.ErrorTypeInterrupt, duckdb.ErrorTypeTransaction:
		return derr.Msg, 0, true
	}
	return strings.TrimSpace(lineOf.ReplaceAllString(derr.Msg, "")), 0, false
}

// goldTx is a transaction on a connection.
type goldTx struct{ conn *duckdb.Conn }

// parseError is a mistake in a model, with its line.
type parseError struct {
	reason string
	line   int
}

func (e *parseError) Error() string { return e.reason }

// Describe implements gold.Tx.
func (t *goldTx) Describe(ctx context.Context, sql string) ([]gold.Column, error) {
	if err := guard(ctx, t.conn, sql); err != nil {
		return nil, t.located(ctx, sql, err)
	}
	var res warehouse.Result
	if err := describe(ctx, t.conn, sql, &res); err != nil {
		var derr *duckdb.Error
		if errors.As(err, &derr) {
			if m := lineOf.FindStringSubmatch(derr.Msg); m != nil {
				line, _ := strconv.Atoi(m[1])
				return nil, &parseError{strings.TrimSpace(lineOf.ReplaceAllString(derr.Msg, "")), line}
			}
		}
		return nil, err
	}
	out := make([]gold.Column, len(res.Columns))
	for i := range out {
		out[i] = gold.Column{Name: res.Columns[i], Type: res.Types[i]}
	}
	return out, nil
}

// located adds the line of a mistake that the parser has found.
func (t *goldTx) located(ctx context.Context, sql string, cause error) error {
	tree, err := text(ctx, t.conn, `SELECT json_serialize_sql(?::VARCHAR)::VARCHAR`, sql)
	if err != nil {
		return cause
	}
	var parsed struct {
		Message  string `json:"error_message"`
		Position string `json:"position"`
	}
	at := -1
	if err := json.Unmarshal([]byte(tree), &parsed); err == nil {
		if n, err := strconv.Atoi(parsed.Position); err == nil {
			at = n
		}
	}
	if at < 0 || at > len(sql) {
		return cause
	}
	return &parseError{parsed.Message, 1 + strings.Count(sql[:at], "\n")}
}

// Exec implements gold.Tx.
func (t *goldTx) Exec(ctx context.Context, sql string, args ...string) error {
	return execute(ctx, t.conn, sql, anys(args)...)
}

func anys(args []string) []any {
	out := make([]any, len(args))
	for i, a := range args {
		out[i] = a
	}
	return out
}

// Rows implements gold.Tx.
func (t *goldTx) Rows(ctx context.Context, sql string, args ...string) (out [][]string, err error) {
	err = rowsOf(ctx, t.conn, sql, bind(anys(args)...), func(row []driver.Value) error {
		texts := make([]string, len(row))
		for i, v := range row {
			texts[i], _ = v.(string)
		}
		out = append(out, texts)
		return nil
	})
	return out, err
}

// Settle implements gold.Tx. DuckDB keeps its statistics itself, and the least and greatest value of each part of a column.
func (*goldTx) Settle(context.Context, string, []string) error { return nil }

// Publish implements gold.Tx.
func (t *goldTx) Publish(ctx context.Context, model, base string, columns []gold.Column) error {
	names := make([]string, 0, len(columns))
	for c := range slices.Values(columns) {
		names = append(names, quote(c.Name))
	}
	return execute(ctx, t.conn, "CREATE OR REPLACE VIEW gold."+quote(model)+" AS SELECT "+strings.Join(names, ", ")+" FROM gold_base."+quote(base))
}
