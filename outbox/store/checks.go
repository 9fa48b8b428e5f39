package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

const minServer = 140000 // server_version_num

func unfit(sentinel error, remedy, format string, args ...any) error {
	return &SetupError{Err: sentinel, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

// checkServer refuses a server that is too old, or that would lose what it says is flushed.
func checkServer(ctx context.Context, conn *pgx.Conn, allowNoFsync bool) error {
	var version int
	var name, fsync string
	err := conn.QueryRow(ctx, `select current_setting('server_version_num')::int, current_setting('server_version'), current_setting('fsync')`).
		Scan(&version, &name, &fsync)
	if err != nil {
		return fmt.Errorf("ask for the server's version: %w", err)
	}
	if version < minServer {
		return unfit(ErrVersion, "upgrade to 14 or newer", "version %s", name)
	}
	if fsync != "on" && !allowNoFsync {
		return unfit(ErrFsyncOff, "set fsync = on: without it a crash loses commits that were already published", "fsync = %s", fsync)
	}
	return nil
}

var outboxChecks = []func(context.Context, *pgx.Conn, string) error{checkTables, checkPrivileges, checkSequence, checkIndexes, checkLogged}

// checkOutbox refuses an outbox that polls could not read fast, completely and in order.
func checkOutbox(ctx context.Context, conn *pgx.Conn, schema string) error {
	for _, check := range outboxChecks {
		if err := check(ctx, conn, schema); err != nil {
			return err
		}
	}
	return nil
}

func checkTables(ctx context.Context, conn *pgx.Conn, schema string) error {
	var missing []string
	err := conn.QueryRow(ctx, `
		select array_agg(t order by t) from unnest('{event,schema,relay,event_id_seq,ring,leaf}'::text[]) t
		where not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
			where n.nspname = $1 and c.relname = t)`, schema).Scan(&missing)
	if err != nil {
		return fmt.Errorf("look for the tables of outbox %q: %w", schema, err)
	}
	if len(missing) > 0 {
		return unfit(ErrNotMigrated, "run `millrace migrate up`", "schema %q has no %s", schema, strings.Join(missing, ", "))
	}
	return nil
}

func checkPrivileges(ctx context.Context, conn *pgx.Conn, schema string) error {
	var role string
	var missing []string
	err := conn.QueryRow(ctx, `
		select current_user, array_agg(p.name order by p.name) filter (where not coalesce(p.held, false)) from (
			values ('USAGE on schema ' || quote_ident($1), has_schema_privilege($1, 'usage')),
			('EXECUTE on pg_control_system()', has_function_privilege('pg_control_system()', 'execute')),
			('EXECUTE on pg_logical_emit_message()', (
				select bool_and(has_function_privilege(f.oid, 'execute')) from pg_proc f -- by name: it has a parameter more from version 17 on
				where f.pronamespace = 'pg_catalog'::regnamespace and f.proname = 'pg_logical_emit_message' and f.proargtypes[2] = 'text'::regtype))
			union all
			select t.p || ' on ' || t.t, has_table_privilege(c.oid, t.p)
			from (values ('event', 'SELECT'), ('schema', 'SELECT'), ('relay', 'SELECT'), ('relay', 'INSERT'),
				('ring', 'SELECT'), ('leaf', 'SELECT')) t(t, p)
			join pg_class c on c.relname = t.t join pg_namespace n on n.oid = c.relnamespace and n.nspname = $1
		) p(name, held)`, schema).Scan(&role, &missing)
	if err != nil {
		return fmt.Errorf("ask for privileges on outbox %q: %w", schema, err)
	}
	if len(missing) > 0 {
		return unfit(ErrPrivilege, "grant it", "role %s lacks %s in schema %q", role, strings.Join(missing, ", "), schema)
	}
	return nil
}

// checkSequence: a cache hands a session ids that it uses later, after higher ones were committed.
func checkSequence(ctx context.Context, conn *pgx.Conn, schema string) error {
	var cache, increment int64
	var cycle bool
	err := conn.QueryRow(ctx, `
		select s.seqcache, s.seqincrement, s.seqcycle from pg_sequence s join pg_class c on c.oid = s.seqrelid
		join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = 'event_id_seq'`, schema).
		Scan(&cache, &increment, &cycle)
	if err != nil {
		return fmt.Errorf("look at the id sequence of outbox %q: %w", schema, err)
	}
	if cache != 1 || increment != 1 || cycle {
		return unfit(ErrSequence, "run ALTER SEQUENCE event_id_seq CACHE 1 INCREMENT 1 NO CYCLE while no writer is at work",
			"cache %d, increment %d, cycle %t in schema %q", cache, increment, cycle, schema)
	}
	return nil
}

// checkIndexes asks for the two indexes on the parent table; the parent's is valid only when every leaf has its part.
func checkIndexes(ctx context.Context, conn *pgx.Conn, schema string) error {
	var missing []string
	err := conn.QueryRow(ctx, `
		select array_agg(want.columns order by want.columns) from (values ('(xid, id)'), ('(id)')) want(columns)
		where not exists (
			select from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
			where n.nspname = $1 and c.relname = 'event' and i.indisvalid and i.indpred is null and i.indexprs is null
				and pg_get_indexdef(i.indexrelid) like '% USING btree ' || want.columns)`, schema).Scan(&missing)
	if err != nil {
		return fmt.Errorf("look for the indexes of outbox %q: %w", schema, err)
	}
	if len(missing) > 0 {
		return unfit(ErrIndex, "create it on the table event, and on every leaf",
			"no valid btree index on event%s in schema %q", strings.Join(missing, ", event"), schema)
	}
	return nil
}

func checkLogged(ctx context.Context, conn *pgx.Conn, schema string) error {
	var unlogged []string
	err := conn.QueryRow(ctx, `
		select array_agg(c.relname::text order by c.relname) from pg_partition_tree(format('%I.event', $1::text)::regclass) leaf
		join pg_class c on c.oid = leaf.relid where c.relpersistence <> 'p'`, schema).Scan(&unlogged)
	if err != nil {
		return fmt.Errorf("look at the leaves of outbox %q: %w", schema, err)
	}
	if len(unlogged) > 0 {
		return unfit(ErrUnlogged, "run ALTER TABLE ... SET LOGGED on it", "%s in schema %q", strings.Join(unlogged, ", "), schema)
	}
	return nil
}
