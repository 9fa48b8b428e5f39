package scaffold

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Column is a column of the table, and the field that it becomes.
type Column struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Field string `json:"field"`
	// Avro is the field's type as it stands in the schema.
	Avro     string `json:"avro"`
	Nullable bool   `json:"nullable"`
	// text says that the field is what PostgreSQL shows of the value.
	text bool
}

type table struct {
	name, schema, bare string // in full and quoted; and its parts
	columns            []Column
	key                int // of columns
}

func readTable(ctx context.Context, conn *pgx.Conn, name, key string) (*table, error) {
	t := &table{}
	err := conn.QueryRow(ctx, `select format('%I.%I', n.nspname, c.relname), n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.oid = to_regclass($1) and c.relkind in ('r', 'p')`, name).Scan(&t.name, &t.schema, &t.bare)
	var refused *pgconn.PgError // a name that is none
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows) && !errors.As(err, &refused):
		return nil, fmt.Errorf("look for table %s: %w", name, err)
	case err != nil:
		return nil, fmt.Errorf("there is no table %q: write it as in SQL, with its schema, such as public.orders or public.\"Order\"", name)
	}
	rows, err := conn.Query(ctx, `
		select a.attname, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), case when t.typbasetype <> 0 then t.typtypmod else a.atttypmod end),
		       not a.attnotnull and not t.typnotnull
		  from pg_attribute a join pg_type t on t.oid = a.atttypid
		 where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum`, t.name)
	if err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", t.name, err)
	}
	var c Column
	taken := map[string]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&c.Name, &c.Type, &c.Nullable}, func() error {
		one := c
		one.Field = fieldName(one.Name, taken)
		one.Avro, one.text = avroType(one.Type)
		t.columns = append(t.columns, one)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", t.name, err)
	}
	return t, t.pickKey(ctx, conn, key)
}

// pickKey finds the column that tells rows apart: an event has one key.
func (t *table) pickKey(ctx context.Context, conn *pgx.Conn, key string) error {
	var names []string
	if err := conn.QueryRow(ctx, `select coalesce(array_agg(a.attname::text), '{}') from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey::int2[])
		where i.indrelid = to_regclass($1) and i.indisprimary`, t.name).Scan(&names); err != nil {
		return fmt.Errorf("look for the primary key of %s: %w", t.name, err)
	}
	switch {
	case key == "" && len(names) == 0:
		return fmt.Errorf("%s has no primary key: name a unique column with --key", t.name)
	case key == "" && len(names) > 1:
		return fmt.Errorf("the primary key of %s is (%s), and an event has one key: name a unique column with --key", t.name, strings.Join(names, ", "))
	case key == "":
		key = names[0]
	}
	if t.key = slices.IndexFunc(t.columns, func(c Column) bool { return c.Name == key }); t.key < 0 {
		return fmt.Errorf("%s has no column %q", t.name, key)
	}
	c := &t.columns[t.key]
	if c.Nullable {
		return fmt.Errorf("column %s of %s can be null, and is to be the key: name another with --key, or make it not null", key, t.name)
	}
	if !slices.Contains([]string{`"int"`, `"long"`, `"string"`, uuidType}, c.Avro) {
		c.Avro, c.text = `"string"`, true
	}
	return nil
}

// celWords cannot stand behind a dot in CEL.
var celWords = strings.Fields("as break const continue else false for function if import in let loop package namespace null return true var void while")

// fieldName is a column's name as Avro, CEL and every sink can spell it.
func fieldName(column string, taken map[string]bool) string {
	name := plain(column)
	if name == "" || name[0] >= '0' && name[0] <= '9' || name[0] == '_' {
		name = "c_" + strings.TrimLeft(name, "_")
	}
	if slices.Contains(celWords, name) {
		name += "_"
	}
	for base, n := name, 2; taken[name]; n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	taken[name] = true
	return name
}
