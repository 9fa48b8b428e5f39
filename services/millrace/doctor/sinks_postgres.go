package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/services/sink"
)

// warehouse is a PostgreSQL that a sink writes to.
type warehouse struct {
	cfg  sink.Config
	conn *pgx.Conn
}

var warehouseChecks = []check[*warehouse]{
	{"version", warehouseVersion},
	{"primary", warehousePrimary},
	{"rights", warehouseRights},
	{"rebuild", warehouseRebuild},
	{"own database", warehouseAlone},
	{"connections", warehouseConnections},
}

func (s Site) warehouse(ctx context.Context, c sink.Config) []Finding {
	cfg, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return s.away("sink", "", whySink, errors.New("the url cannot be read"))
	}
	cfg.RuntimeParams["application_name"] = "millrace doctor"
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return s.away("sink", "", whySink, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return examine(ctx, "sink", "", &warehouse{c, conn}, warehouseChecks)
}

func ask[T any](ctx context.Context, w *warehouse, sql string, args ...any) (v T, err error) {
	return v, w.conn.QueryRow(ctx, sql, args...).Scan(&v)
}

// oldestWarehouse is the oldest version that the warehouse is tested on.
const oldestWarehouse = 14

func warehouseVersion(ctx context.Context, w *warehouse) ([]Finding, error) {
	n, err := ask[int](ctx, w, "select current_setting('server_version_num')::int")
	if err != nil {
		return nil, err
	}
	if n/10000 < oldestWarehouse {
		return found(Error, fmt.Sprintf("PostgreSQL %d", n/10000), "the warehouse is not tested on it", fmt.Sprintf("upgrade it to PostgreSQL %d or newer", oldestWarehouse)), nil
	}
	return fine("PostgreSQL %d", n/10000), nil
}

func warehousePrimary(ctx context.Context, w *warehouse) ([]Finding, error) {
	standby, err := ask[bool](ctx, w, "select pg_is_in_recovery()")
	if err != nil {
		return nil, err
	}
	readOnly, err := ask[bool](ctx, w, "select current_setting('default_transaction_read_only')::bool")
	if err != nil {
		return nil, err
	}
	switch {
	case standby:
		return found(Error, "it is a standby", whySink, "let sinks."+w.cfg.Name+".url name the primary"), nil
	case readOnly:
		return found(Warning, "default_transaction_read_only is on", "others cannot write to it; the sink asks for read-write transactions", "ALTER DATABASE … SET default_transaction_read_only = off;"), nil
	}
	return fine("it is a primary"), nil
}

// schemas are those of the warehouse.
func (w *warehouse) schemas() []string {
	names := []string{"bronze", "bronze_base", "silver", "silver_base", "millrace"}
	if w.cfg.Schema != "" {
		for i, n := range names {
			names[i] = w.cfg.Schema + "_" + n
		}
	}
	return names
}

func warehouseRights(ctx context.Context, w *warehouse) ([]Finding, error) {
	missing, err := ask[[]string](ctx, w, "select coalesce(array_agg(n), '{}') from unnest($1::text[]) n where to_regnamespace(n) is null", w.schemas())
	if err != nil {
		return nil, err
	}
	foreign, err := ask[[]string](ctx, w, `select coalesce(array_agg(nspname::text), '{}') from pg_namespace
		where nspname = any($1) and not pg_has_role(current_user, nspowner, 'usage')`, w.schemas())
	if err != nil {
		return nil, err
	}
	create, err := ask[bool](ctx, w, "select has_database_privilege(current_database(), 'create')")
	if err != nil {
		return nil, err
	}
	user, err := ask[string](ctx, w, "select quote_ident(current_user) || ' of ' || quote_ident(current_database())")
	if err != nil {
		return nil, err
	}
	role, db, _ := strings.Cut(user, " of ")
	switch {
	case len(foreign) > 0:
		return found(Error, fmt.Sprintf("the user %s does not own the schemas %s", role, strings.Join(foreign, ", ")), "it cannot change their tables when a declaration changes: the sink stops",
			fmt.Sprintf("ALTER SCHEMA %s OWNER TO %s; and its tables; or another sinks.%s.schema", foreign[0], role, w.cfg.Name)), nil
	case len(missing) > 0 && !create:
		return found(Error, fmt.Sprintf("the schemas %s are not there, and the user %s may not make them", strings.Join(missing, ", "), role), "the sink stops at its start",
			fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s;", db, role)), nil
	}
	return fine("the user %s has the rights that the warehouse needs", role), nil
}

// warehouseRebuild looks whether another generation could be built, which has schemas of its own beside those of the first.
func warehouseRebuild(ctx context.Context, w *warehouse) ([]Finding, error) {
	there, err := ask[bool](ctx, w, "select coalesce(bool_and(to_regnamespace(n) is not null), true) from unnest($1::text[]) n", w.schemas())
	if err != nil || !there {
		return nil, err // that they cannot be made is told as it is
	}
	create, err := ask[bool](ctx, w, "select has_database_privilege(current_database(), 'create')")
	if err != nil {
		return nil, err
	}
	if create {
		return fine("another generation can be built beside the one that serves"), nil
	}
	grant, err := ask[string](ctx, w, "select format('GRANT CREATE ON DATABASE %I TO %I;', current_database(), current_user)")
	if err != nil {
		return nil, err
	}
	return found(Warning, "the user may not make schemas in the database", "a rebuild makes some for the new generation: millrace rebuild "+w.cfg.Name+" fails, and what serves goes on", grant), nil
}

func warehouseAlone(ctx context.Context, w *warehouse) ([]Finding, error) {
	outbox, err := ask[bool](ctx, w, "select to_regclass('outbox.event') is not null")
	if err != nil {
		return nil, err
	}
	if outbox {
		return found(Warning, "an application's outbox is in the same database", "questions to the warehouse and its writes take from the application, and vacuum and backups of one wait for the other",
			"CREATE DATABASE warehouse; and name it in sinks."+w.cfg.Name+".url"), nil
	}
	return fine("no application's outbox is in this database"), nil
}

// defaultConnections is how many connections write where the configuration does not say it; two more are for DDL and queries.
const defaultConnections = 8

func warehouseConnections(ctx context.Context, w *warehouse) ([]Finding, error) {
	most, err := ask[int](ctx, w, `select case when d.datconnlimit >= 0 then least(d.datconnlimit, current_setting('max_connections')::int) else current_setting('max_connections')::int end
		from pg_database d where d.datname = current_database()`)
	if err != nil {
		return nil, err
	}
	want := w.cfg.Connections
	if want == 0 {
		want = defaultConnections
	}
	if most < want+2 {
		return found(Warning, fmt.Sprintf("%d connections are allowed, the sink may use %d and two for queries and changes of tables", most, want), "lanes wait for each other, and others find no connection",
			fmt.Sprintf("sinks.%s.connections: %d, or a larger max_connections", w.cfg.Name, max(1, most/2))), nil
	}
	return fine("%d connections are allowed, the sink writes on %d", most, want), nil
}
