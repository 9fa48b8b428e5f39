package backfill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/schemas"
)

// source is what is read, as statements.
type source struct {
	shape *shape
	// from stands behind FROM: the table, or the query in brackets.
	from string
	// key are the columns of the key as identifiers, types what their text is cast to.
	key, types []string
	// columns are the expressions of the event's fields, in the order of shape.fields.
	columns []string
	digest  string
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// column is a column of what is read.
type column struct{ name, typ string }

func openSource(ctx context.Context, conn *pgx.Conn, cfg Config, schema *schemas.Schema) (*source, error) {
	s := &source{}
	var err error
	if s.shape, err = newShape(cfg, schema); err != nil {
		return nil, err
	}
	s.from = "(" + strings.TrimRight(strings.TrimSpace(cfg.Query), "; \n\t") + ")"
	if cfg.Table != "" {
		if s.from, err = tableName(ctx, conn, cfg.Table); err != nil {
			return nil, err
		}
	}
	columns, err := describe(ctx, conn, s.from)
	if err != nil {
		if cfg.Table != "" {
			return nil, wrong("table", "%v", err)
		}
		return nil, wrong("query", "%v", err)
	}
	if err := s.pick(cfg, columns); err != nil {
		return nil, err
	}
	if cfg.Table != "" {
		if err := uniqueKey(ctx, conn, s.from, cfg.Key); err != nil {
			return nil, err
		}
	} else if err := s.keyed(ctx, conn); err != nil {
		return nil, err
	}
	s.digest = s.sum(cfg, schema)
	return s, nil
}

// tableName looks a table up as the session's search path has it, and returns it in full.
func tableName(ctx context.Context, conn *pgx.Conn, table string) (name string, err error) {
	err = conn.QueryRow(ctx, `select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.oid = to_regclass($1) and c.relkind in ('r', 'p')`, table).Scan(&name)
	var refused *pgconn.PgError // a name that is none
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows) && !errors.As(err, &refused):
		return "", fmt.Errorf("look for table %s: %w", table, err)
	case err != nil:
		return "", wrong("table", "there is no table %q: write it as in SQL, with its schema, such as public.orders or public.\"Order\"", table)
	}
	return name, nil
}

// describe asks for the columns of what is read.
func describe(ctx context.Context, conn *pgx.Conn, from string) ([]column, error) {
	d, err := conn.Prepare(ctx, "", "select * from "+from+" as r")
	if err != nil {
		return nil, err
	}
	if len(d.ParamOIDs) > 0 {
		return nil, fmt.Errorf("it takes parameters")
	}
	columns := make([]column, len(d.Fields))
	for i, f := range d.Fields {
		columns[i].name = f.Name
		if err := conn.QueryRow(ctx, "select format_type($1, $2)", f.DataTypeOID, f.TypeModifier).Scan(&columns[i].typ); err != nil {
			return nil, err
		}
	}
	return columns, nil
}

// pick finds the columns of the key and of the event's fields.
func (s *source) pick(cfg Config, columns []column) error {
	names := make([]string, len(columns))
	for i, c := range columns {
		if slices.Contains(names[:i], c.name) {
			return wrong("query", "has two columns %q", c.name)
		}
		names[i] = c.name
	}
	find := func(setting, name string) (column, error) {
		if i := slices.Index(names, name); i >= 0 {
			return columns[i], nil
		}
		return column{}, wrong(setting, "there is no column %q: there are %s", name, strings.Join(names, ", "))
	}
	for _, name := range cfg.Key {
		c, err := find("key", name)
		if err != nil {
			return err
		}
		s.key, s.types = append(s.key, "r."+quote(name)), append(s.types, c.typ)
	}
	kept := s.shape.fields[:0]
	for _, f := range s.shape.fields {
		c, err := find("fields."+f.name, f.column)
		if err != nil {
			if f.optional && cfg.Fields[f.name] == "" {
				continue // it gets its default
			}
			return err
		}
		f.bytes = c.typ == "bytea"
		s.columns = append(s.columns, f.expression("r."+quote(c.name), c.typ))
		kept = append(kept, f)
	}
	s.shape.fields = kept
	return nil
}

// keyed refuses a query that has rows without a key: nothing is behind a position or before it that is null.
func (s *source) keyed(ctx context.Context, conn *pgx.Conn) error {
	var without bool
	nulls := strings.Join(s.key, " is null or ") + " is null"
	if err := conn.QueryRow(ctx, "select exists (select from "+s.from+" as r where "+nulls+")").Scan(&without); err != nil {
		return wrong("query", "%v", err)
	}
	if without {
		return wrong("key", "a row has no value in a column of it: rows without a key cannot be read in order; leave them out of the query")
	}
	return nil
}

// uniqueKey refuses a key that two rows could share: of those at the edge of a batch one would be left out.
func uniqueKey(ctx context.Context, conn *pgx.Conn, table string, key []string) error {
	var ok bool
	err := conn.QueryRow(ctx, `
		select exists (select from pg_index i
		 where i.indrelid = to_regclass($1) and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
		   and (select array_agg(a.attname::text) from unnest(i.indkey::int2[]) with ordinality k(n, o)
		          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.n where k.o <= i.indnkeyatts) <@ $2::text[])`, table, key).Scan(&ok)
	if err != nil {
		return fmt.Errorf("look for an index on the key: %w", err)
	}
	if !ok {
		return wrong("key", "%s has no unique index on (%s): name the columns of its primary key, or make such an index", table, strings.Join(key, ", "))
	}
	var nullable []string
	err = conn.QueryRow(ctx, `select coalesce(array_agg(attname::text), '{}') from pg_attribute
		where attrelid = to_regclass($1) and attname = any($2::text[]) and not attnotnull`, table, key).Scan(&nullable)
	if err != nil {
		return fmt.Errorf("look whether the key can be null: %w", err)
	}
	if len(nullable) > 0 {
		return wrong("key", "%s can be null: rows without a key cannot be read in order; use a query that leaves them out", strings.Join(nullable, ", "))
	}
	return nil
}

// sum is a digest of all that decides which events the rows become.
func (s *source) sum(cfg Config, schema *schemas.Schema) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q %s %v", s.from, s.key, s.types, s.columns, cfg.Type, schema.Fingerprint, cfg.Headers)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// countTimeout bounds the count that the remaining time is told from.
const countTimeout = 5 * time.Second

// count is how many rows there are; below zero if that takes too long to say.
func (s *source) count(ctx context.Context, q querier) int64 {
	var n int64 = -1
	if tx, ok := q.(pgx.Tx); ok {
		// In a savepoint: a count that is cut off must not end the transaction.
		if pgx.BeginFunc(ctx, tx, func(sub pgx.Tx) error {
			if _, err := sub.Exec(ctx, fmt.Sprintf("set local statement_timeout = %d", countTimeout.Milliseconds())); err != nil {
				return err
			}
			if err := sub.QueryRow(ctx, "select count(*) from "+s.from+" as r").Scan(&n); err != nil {
				return err
			}
			_, err := sub.Exec(ctx, "set local statement_timeout = default")
			return err
		}) != nil {
			return -1
		}
		return n
	}
	conn, ok := q.(*pgx.Conn)
	if !ok {
		return -1
	}
	if pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { n = s.count(ctx, tx); return nil }) != nil {
		return -1
	}
	return n
}

// read returns the rows behind a position, in the order of the key, locked if so wanted. It asks for one more than it returns: whether
// these are the last, and whether the key tells rows apart.
func (s *source) read(ctx context.Context, q querier, after []string, limit int, lock bool) (page, error) {
	var b strings.Builder
	b.WriteString("select array[" + each(s.key, func(k string) string { return k + "::text" }) + "]")
	for _, c := range s.columns {
		b.WriteString(", " + c)
	}
	b.WriteString(" from " + s.from + " as r")
	var args []any
	if after != nil {
		given := make([]string, len(after))
		for i, v := range after {
			args = append(args, v)
			given[i] = fmt.Sprintf("$%d::text::%s", i+1, s.types[i])
		}
		b.WriteString(" where (" + strings.Join(s.key, ", ") + ") > (" + strings.Join(given, ", ") + ")")
	}
	b.WriteString(" order by " + strings.Join(s.key, ", ") + fmt.Sprintf(" limit %d", limit+1))
	if lock {
		b.WriteString(" for share of r")
	}
	rows, err := q.Query(ctx, b.String(), args...)
	if err != nil {
		return page{}, fmt.Errorf("read rows: %w", err)
	}
	defer rows.Close()
	var p page
	for rows.Next() {
		values := make([]*string, len(s.columns))
		var key []*string
		into := []any{&key}
		for i := range values {
			into = append(into, &values[i])
		}
		if err := rows.Scan(into...); err != nil {
			return page{}, fmt.Errorf("read a row: %w", err)
		}
		if err := p.add(s.shape, key, values); err != nil {
			return page{}, err
		}
	}
	if err := rows.Err(); err != nil {
		return page{}, fmt.Errorf("read rows: %w", err)
	}
	if p.end = len(p.rows) <= limit; !p.end {
		p.rows = p.rows[:limit]
	}
	return p, nil
}

func each(list []string, f func(string) string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = f(s)
	}
	return strings.Join(out, ", ")
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
