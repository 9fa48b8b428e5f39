package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/consumers/warehouse/gold"
)

// A view is changed under a lock that waits for its readers, and that later readers wait for. So that a long query does not hold up all
// others behind us, it is asked for a short while, and again after a pause.
const (
	publishPatience = 300 * time.Millisecond
	publishPause    = 500 * time.Millisecond
	publishTries    = 60
)

// wrongDefinition is what CREATE OR REPLACE VIEW answers when columns are gone or others.
const wrongDefinition = "42P16"

// Publish implements gold.Tx.
func (t *goldTx) Publish(ctx context.Context, model, base string, columns []gold.Column) error {
	if err := t.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", publishPatience.Milliseconds())); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := t.within(ctx, func() error { return t.show(ctx, model, base, columns) })
		if !is(err, lockNotAvailable) || try == publishTries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(publishPause):
		}
	}
}

// within undoes what f did if it fails, and no more than that.
func (t *goldTx) within(ctx context.Context, f func() error) error {
	if err := t.Exec(ctx, "SAVEPOINT millrace_publish"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		return t.Exec(ctx, "RELEASE SAVEPOINT millrace_publish")
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if rerr := t.Exec(ctx, "ROLLBACK TO SAVEPOINT millrace_publish"); rerr != nil {
			return errors.Join(err, rerr)
		}
	}
	return err
}

// option is a setting of a view as the catalog has it.
var option = regexp.MustCompile(`^[a-z_]+=[a-zA-Z0-9_]+$`)

// show makes the view, or has it show another table. Its settings and grants stay, which others may have made.
func (t *goldTx) show(ctx context.Context, model, base string, columns []gold.Column) error {
	view := t.g.Input("gold." + model)
	settings, grants, err := t.settings(ctx, view)
	if err != nil {
		return err
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quote(c.Name)
	}
	body := " VIEW " + view + settings + " AS SELECT " + strings.Join(names, ", ") + " FROM " + t.g.Base(base)
	err = t.within(ctx, func() error { return t.Exec(ctx, "CREATE OR REPLACE"+body) })
	if !is(err, wrongDefinition) {
		return err
	}
	for _, sql := range append([]string{"DROP VIEW " + view, "CREATE" + body}, grants...) {
		if err := t.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// settings are those of a view, as they are written, and the statements that grant what is granted on it.
func (t *goldTx) settings(ctx context.Context, view string) (settings string, grants []string, err error) {
	rows, err := t.Rows(ctx, "SELECT unnest(reloptions) FROM pg_catalog.pg_class WHERE oid = to_regclass($1)", view)
	if err != nil {
		return "", nil, err
	}
	var options []string
	for _, row := range rows {
		if option.MatchString(row[0]) {
			options = append(options, row[0])
		}
	}
	if len(options) > 0 {
		settings = " WITH (" + strings.Join(options, ", ") + ")"
	}
	rows, err = t.Rows(ctx, `SELECT 'GRANT ' || a.privilege_type || ' ON ' || $1::text || ' TO ' || CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
		|| CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
		FROM pg_catalog.pg_class c, aclexplode(c.relacl) a WHERE c.oid = to_regclass($1) AND a.grantee <> c.relowner`, view)
	for _, row := range rows {
		grants = append(grants, row[0])
	}
	return settings, grants, err
}
