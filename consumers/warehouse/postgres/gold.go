package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/warehouse"
	"github.com/millrace/millrace/consumers/warehouse/gold"
)

var _ gold.Engine = (*Gold)(nil)

// Gold builds the models of gold in the warehouse: views in the schema gold, and the tables behind them in gold_base. Each transaction has a connection of its
// own, and an advisory lock keeps it the only one of all processes.
type Gold struct {
	w          *Warehouse
	view, base string // the schemas, quoted
}

// Gold returns the engine for gold's models.
func (w *Warehouse) Gold() (gold.Engine, error) { return newGold(w), nil }

// OpenGold returns an engine for the gold of a warehouse that a sink has made, without opening it for writing. There is nothing to close.
func OpenGold(cfg Config) (*Gold, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, consumers.AsSystemic(err)
	}
	return newGold(&Warehouse{cfg: cfg, space: spaceOf(cfg.Schema, 1)}), nil
}

func newGold(w *Warehouse) *Gold {
	prefix := ""
	if w.cfg.Schema != "" {
		prefix = w.cfg.Schema + "_"
	}
	return &Gold{w: w, view: quote(prefix + "gold"), base: quote(prefix + "gold_base")}
}

// Quote implements gold.Names.
func (*Gold) Quote(name string) string { return quote(name) }

// Input implements gold.Names.
func (g *Gold) Input(input string) string {
	layer, name, _ := strings.Cut(input, ".")
	schema := map[string]string{"silver": g.w.space.silver, "bronze": g.w.space.bronze, "gold": g.view}[layer]
	return schema + "." + quote(identifier(name))
}

// Base implements gold.Engine.
func (g *Gold) Base(name string) string { return g.base + "." + quote(name) }

// Temp implements gold.Engine.
func (*Gold) Temp(name string) string { return "pg_temp." + quote(identifier(name)) }

// Meta implements gold.Engine. What gold remembers belongs to all generations. The sink's own tables are those of the one that serves, which is known within
// a transaction only.
func (g *Gold) Meta(name string) string {
	if name == "gold" {
		return g.w.space.root + "." + quote(name)
	}
	return servingSchema + "." + quote(name)
}

// servingSchema stands for the schema of the generation that serves.
const servingSchema = `"millrace of the generation that serves"`

// InPlace implements gold.Engine: a transaction that is REPEATABLE READ finds a table empty that was filled after it began, and the view leads
// it there.
func (*Gold) InPlace() bool { return true }

// Look implements gold.Engine.
func (g *Gold) Look(ctx context.Context, f func(gold.Tx) error) error {
	return g.session(ctx, func(conn *pgx.Conn) error { return g.transaction(ctx, conn, pgx.ReadOnly, f) })
}

// Transaction implements gold.Engine.
func (g *Gold) Transaction(ctx context.Context, f func(gold.Tx) error) error {
	return g.session(ctx, func(conn *pgx.Conn) error {
		if err := g.lock(ctx, conn); err != nil {
			return err
		}
		err := g.transaction(ctx, conn, pgx.ReadWrite, f)
		// The session's end would free the lock as well, but a while after we have gone on.
		free, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = conn.PgConn().Exec(free, "ROLLBACK; SELECT pg_advisory_unlock_all()").ReadAll()
		return err
	})
}

// The lock of a process that has just gone is free as soon as the server has seen that.
const (
	lockTries = 10
	lockPause = 100 * time.Millisecond
)

// lock makes this the only build of all processes.
func (g *Gold) lock(ctx context.Context, conn *pgx.Conn) error {
	for try := 1; ; try++ {
		var alone bool
		if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", g.w.space.sharedID("gold")).Scan(&alone); err != nil || alone {
			return err
		}
		if try == lockTries {
			return gold.ErrBusy
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPause):
		}
	}
}

// session runs f on a connection of its own; what f leaves behind on it ends with it.
func (g *Gold) session(ctx context.Context, f func(*pgx.Conn) error) error {
	if err := g.w.enter(); err != nil {
		return err
	}
	defer g.w.leave()
	conn, err := g.w.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = hangUp(conn) }()
	// A process that is frozen between two statements loses its session, and so the lock.
	settings := "SET idle_session_timeout = '60s'"
	if deadline, ok := ctx.Deadline(); ok { // the server ends a statement by itself should our word not reach it
		settings += fmt.Sprintf("; SET statement_timeout = %d", max(time.Until(deadline).Milliseconds(), 1)+1000)
	}
	if _, err := conn.PgConn().Exec(ctx, settings).ReadAll(); err != nil {
		return err
	}
	if err := g.prepare(ctx, conn); err != nil {
		return err
	}
	return f(conn)
}

func (g *Gold) transaction(ctx context.Context, conn *pgx.Conn, mode pgx.TxAccessMode, f func(gold.Tx) error) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: mode})
	if err != nil {
		return err
	}
	serving, err := g.w.servingOf(ctx, tx)
	if err != nil {
		return err
	}
	if err := f(&goldTx{g, conn, spaceOf(g.w.cfg.Schema, serving).millrace}); err != nil {
		return err // the end of the session is the end of the transaction
	}
	return tx.Commit(ctx)
}

// prepare makes what is missing of gold's own.
func (g *Gold) prepare(ctx context.Context, conn *pgx.Conn) error {
	var silver, done, view, base bool
	err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL, to_regnamespace($3) IS NOT NULL, to_regnamespace($4) IS NOT NULL",
		g.w.space.root+".serving", g.Meta("gold"), g.view, g.base).Scan(&silver, &done, &view, &base)
	switch {
	case err != nil:
		return err
	case !silver:
		return errNoWarehouse
	}
	var steps []string
	if !view {
		steps = append(steps, "CREATE SCHEMA IF NOT EXISTS "+g.view)
	}
	if !base {
		steps = append(steps, "CREATE SCHEMA IF NOT EXISTS "+g.base)
	}
	if !done {
		steps = append(steps, "CREATE TABLE IF NOT EXISTS "+g.Meta("gold")+" (model text NOT NULL, record text NOT NULL)")
	}
	if len(steps) == 0 {
		return nil
	}
	if _, err := conn.PgConn().Exec(ctx, fmt.Sprintf("BEGIN; SELECT pg_advisory_xact_lock(%d); %s; COMMIT", g.w.space.sharedID("make gold"), strings.Join(steps, "; "))).ReadAll(); err != nil {
		return fmt.Errorf("make the schemas of gold: %w", err)
	}
	return nil
}

var errNoWarehouse = errors.New("the warehouse has no tables yet: its sink makes them when it runs")

// Explain implements gold.Engine.
func (*Gold) Explain(err error) (text string, line int, transient bool) {
	var at *statementError
	if errors.As(err, &at) {
		line = at.line
	}
	var pg *pgconn.PgError
	var connecting *pgconn.ConnectError
	switch {
	case err == nil:
		return "", 0, false
	case errors.Is(err, warehouse.ErrRefused), errors.Is(err, warehouse.ErrInvalid), errors.Is(err, ErrURL), errors.Is(err, errNoWarehouse):
		return err.Error(), line, false
	case errors.As(err, &connecting), !errors.As(err, &pg):
		return err.Error(), 0, !errors.Is(err, ErrClosed)
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08", "40", "53", "55", "58":
		return pg.Message, 0, true
	case "57":
		return pg.Message, 0, pg.Code != queryCanceled
	case "2B":
		return pg.Message + " (" + pg.Detail + "): drop that, and make it again afterwards", 0, false
	}
	return pg.Message, line, false
}

// statementError is an error at a line of a model.
type statementError struct {
	err  error
	line int
}

func (e *statementError) Error() string { return e.err.Error() }
func (e *statementError) Unwrap() error { return e.err }

// goldTx is a transaction on a connection.
type goldTx struct {
	g       *Gold
	conn    *pgx.Conn
	serving string // the schema of the generation that serves
}

// declareCursor begins a statement that takes nothing but one query.
const declareCursor = "DECLARE millrace_model NO SCROLL CURSOR FOR "

// Describe implements gold.Tx.
func (t *goldTx) Describe(ctx context.Context, sql string) ([]gold.Column, error) {
	if _, err := screen(sql); err != nil {
		return nil, err
	}
	if err := t.g.w.judge(ctx, t.conn, sql); err != nil {
		return nil, err
	}
	pg := t.conn.PgConn()
	if _, err := pg.Prepare(ctx, "", declareCursor+sql, nil); err != nil {
		return nil, located(err, declareCursor+sql)
	}
	d, err := pg.Prepare(ctx, "", sql, nil)
	if err != nil {
		return nil, located(err, sql)
	}
	if len(d.ParamOIDs) > 0 {
		return nil, fmt.Errorf("%w: there is nothing to put in the place of $1", warehouse.ErrInvalid)
	}
	res := &warehouse.Result{Types: make([]string, len(d.Fields))}
	if err := typeNames(ctx, t.conn, d.Fields, res); err != nil {
		return nil, err
	}
	out := make([]gold.Column, len(d.Fields))
	for i, f := range d.Fields {
		out[i] = gold.Column{Name: f.Name, Type: res.Types[i]}
	}
	return out, nil
}

// located adds the line that the server points to, which counts characters from 1.
func located(err error, sql string) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Position < 1 {
		return err
	}
	line, left := 1, int(pg.Position)-1
	for i := 0; i < len(sql) && left > 0; left-- {
		_, size := utf8.DecodeRuneInString(sql[i:])
		if sql[i] == '\n' {
			line++
		}
		i += size
	}
	return &statementError{err, line}
}

// Exec implements gold.Tx.
func (t *goldTx) Exec(ctx context.Context, sql string, args ...string) error {
	sql = strings.ReplaceAll(sql, servingSchema, t.serving)
	if len(args) == 0 {
		return execute(ctx, t.conn.PgConn(), sql)
	}
	_, err := t.conn.Exec(ctx, sql, anys(args)...)
	return err
}

func anys(args []string) []any {
	out := make([]any, len(args))
	for i, a := range args {
		out[i] = a
	}
	return out
}

// Rows implements gold.Tx. Values come in their text form.
func (t *goldTx) Rows(ctx context.Context, sql string, args ...string) (out [][]string, err error) {
	sql = strings.ReplaceAll(sql, servingSchema, t.serving)
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	rr := t.conn.PgConn().ExecParams(ctx, sql, params, nil, nil, nil)
	for rr.NextRow() {
		row := make([]string, len(rr.Values()))
		for i, v := range rr.Values() {
			row[i] = string(v)
		}
		out = append(out, row)
	}
	_, err = rr.Close()
	return out, err
}

// Settle implements gold.Tx: an index for the rows of a key, and statistics, without which the first queries would be planned for an empty table.
func (t *goldTx) Settle(ctx context.Context, base string, key []string) error {
	if len(key) > 0 {
		names := make([]string, len(key))
		for i, k := range key {
			names[i] = quote(k)
		}
		if err := t.Exec(ctx, "CREATE INDEX ON "+t.g.Base(base)+" ("+strings.Join(names, ", ")+")"); err != nil {
			return err
		}
	}
	return t.Exec(ctx, "ANALYZE "+t.g.Base(base))
}
