package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// show makes a view of readers, or leads it elsewhere. What others have granted on it, and how they have set it, stays.
func show(ctx context.Context, tx pgx.Tx, name, query string) error {
	var there bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&there); err != nil {
		return err
	}
	v := viewOf{tx: tx, name: name}
	if there {
		if err := v.remember(ctx); err != nil {
			return err
		}
	}
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // what fails of it is undone, and no more than that
		_, err := tx.Exec(ctx, "CREATE OR REPLACE VIEW "+name+v.options()+" AS "+query)
		return err
	})
	if !is(err, wrongDefinition) {
		return err
	}
	for _, sql := range []string{"DROP VIEW " + name, "CREATE VIEW " + name + v.options() + " AS " + query} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return v.grant(ctx)
}

// lockViews keeps readers from the views that there are, all of them in one statement and in an order that chance gives: who reads several in one query
// locks them one after another, and whoever comes between two locks of ours is waited for in vain. LOCK TABLE would lock the tables below them as well, and
// wait for the autovacuum of one; the owner that a view has already is given to it instead, which locks no more than the view.
func lockViews(ctx context.Context, tx pgx.Tx, names []string) error {
	names = slices.Clone(names)
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var sql string
	err := tx.QueryRow(ctx, `SELECT coalesce(string_agg(format('ALTER VIEW %s OWNER TO %I', n, pg_get_userbyid(c.relowner)), '; ' ORDER BY i), '')
		FROM unnest($1::text[]) WITH ORDINALITY v(n, i) JOIN pg_class c ON c.oid = to_regclass(n)`, names).Scan(&sql)
	if err != nil || sql == "" {
		return err
	}
	_, err = tx.Conn().PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// viewOf remembers what others have made of a view.
type viewOf struct {
	tx       pgx.Tx
	name     string
	settings []string
	grants   []string
	columns  map[string][]string // what is granted on a column
	comment  *string
}

func (v *viewOf) remember(ctx context.Context) error {
	err := v.tx.QueryRow(ctx, "SELECT coalesce(reloptions, '{}'), obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass($1)", v.name).Scan(&v.settings, &v.comment)
	if err != nil {
		return fmt.Errorf("look at view %s: %w", v.name, err)
	}
	if v.grants, err = grantsOf(ctx, v.tx, v.name, v.name); err != nil {
		return err
	}
	rows, err := v.tx.Query(ctx, `SELECT t.attname, format('GRANT %s (%I) ON %s TO %s%s', a.privilege_type, t.attname, $1::text, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(g.rolname) END,
		CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
		FROM pg_attribute t, aclexplode(t.attacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE t.attrelid = to_regclass($1) AND t.attacl IS NOT NULL`, v.name)
	if err != nil {
		return err
	}
	v.columns = map[string][]string{}
	var column, grant string
	_, err = pgx.ForEachRow(rows, []any{&column, &grant}, func() error {
		v.columns[column] = append(v.columns[column], grant)
		return nil
	})
	return err
}

// grantsOf are the statements that grant on one relation what is granted on another.
func grantsOf(ctx context.Context, tx pgx.Tx, from, on string) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT format('GRANT %s ON %s TO %s%s', a.privilege_type, $2::text, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(g.rolname) END,
		CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
		FROM pg_class c, aclexplode(c.relacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE c.oid = to_regclass($1) AND a.grantee <> c.relowner`, from, on)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (v *viewOf) options() string {
	if len(v.settings) == 0 {
		return ""
	}
	return " WITH (" + strings.Join(v.settings, ", ") + ")"
}

// grant gives a view that was made anew what the one before had. What was granted on a column that is gone is gone as well.
func (v *viewOf) grant(ctx context.Context) error {
	all := slices.Clone(v.grants)
	if v.comment != nil {
		all = append(all, "COMMENT ON VIEW "+v.name+" IS '"+strings.ReplaceAll(*v.comment, "'", "''")+"'")
	}
	for column, grants := range v.columns {
		var there bool
		err := v.tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2 AND NOT attisdropped)", v.name, column).Scan(&there)
		if err != nil {
			return err
		}
		if there {
			all = append(all, grants...)
		}
	}
	for _, g := range all {
		if _, err := v.tx.Exec(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// carryAll gives the tables of this generation what others have granted on those of another one, and the policies on their rows: who reads through a view
// with rights of his own (security_invoker) must not find himself locked out, nor see more.
func (w *Warehouse) carryAll(ctx context.Context, tx pgx.Tx, old int, v *view) error {
	o := spaceOf(w.cfg.Schema, old)
	var there bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", o.millrace+".entities").Scan(&there); err != nil || !there {
		return err
	}
	stored, err := readEntities(ctx, tx.Conn(), o)
	if err != nil {
		return err
	}
	for entity, t := range v.tables {
		if s, ok := stored[entity]; ok {
			if err := carry(ctx, tx, o.base+"."+quote(s.name), t.full(w.space)); err != nil {
				return fmt.Errorf("give table %s the grants and policies of the one before: %w", t.full(w.space), err)
			}
		}
	}
	return carry(ctx, tx, o.bronzeBase+".events", w.space.bronzeBase+".events")
}

// carried are queries for the statements that give the table $2 what the table $1 has: its grants, those on its schema, and its policies.
var carried = []string{
	`SELECT DISTINCT format('REVOKE ALL ON %s FROM %s', $2::text, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(g.rolname) END)
		FROM pg_class c, aclexplode(c.relacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE c.oid = to_regclass($2) AND $1::text <> '' AND a.grantee <> c.relowner`,
	`SELECT DISTINCT format('GRANT %s ON SCHEMA %s TO %s', a.privilege_type, t.relnamespace::regnamespace, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(g.rolname) END)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class t ON t.oid = to_regclass($2), aclexplode(n.nspacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
		WHERE c.oid = to_regclass($1) AND a.grantee <> n.nspowner`,
	`SELECT format('DROP POLICY %I ON %s', p.polname, $2::text) FROM pg_policy p WHERE p.polrelid = to_regclass($2) AND $1::text <> ''`,
	`SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', $2::text, CASE WHEN c.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END,
		CASE WHEN c.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END) FROM pg_class c JOIN pg_class t ON t.oid = to_regclass($2)
		WHERE c.oid = to_regclass($1) AND (c.relrowsecurity, c.relforcerowsecurity) <> (t.relrowsecurity, t.relforcerowsecurity)`,
	`SELECT format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, $2::text, CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
		CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
		(SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ') FROM unnest(p.polroles) r))
		|| coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '') || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
		FROM pg_policy p WHERE p.polrelid = to_regclass($1) AND $2::text <> ''`,
}

func carry(ctx context.Context, tx pgx.Tx, from, to string) error {
	var all []string
	for i, query := range carried {
		if i == 1 { // after those that revoke
			grants, err := grantsOf(ctx, tx, from, to)
			if err != nil {
				return err
			}
			all = append(all, grants...)
		}
		rows, err := tx.Query(ctx, query, from, to)
		if err != nil {
			return err
		}
		more, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	for _, sql := range all {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return errors.Join(fmt.Errorf("%.200s", sql), err)
		}
	}
	return nil
}
