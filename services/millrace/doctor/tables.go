package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/outbox/store"
)

var outboxChecks = []check[*database]{
	{"outbox", tables},
	{"migrations", migrations},
	{"rights of the relay", relayRights},
	{"rights of the writers", writerRights},
	{"partitions", partitions},
	{"autovacuum of leaves", leafVacuum},
	{"leader", leader},
}

func (db *database) schema() string { return pgx.Identifier{db.cfg.Schema}.Sanitize() }

func quoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// migrated says whether there are tables to look at; a check of theirs that finds none has nothing to add to what "outbox" says.
func (db *database) migrated(ctx context.Context) (there bool, err error) {
	err = db.conn.QueryRow(ctx, `select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = $1 and c.relname = 'event')`, db.cfg.Schema).Scan(&there)
	return there, err
}

// tables is all for which the relay would refuse the outbox.
func tables(ctx context.Context, db *database) ([]Finding, error) {
	unfit, err := store.Examine(ctx, db.conn, db.cfg.Schema)
	if err != nil {
		return nil, err
	}
	var all []Finding
	for _, e := range unfit {
		why, mend := db.unfit(ctx, e)
		all = append(all, found(Error, e.Err.Error()+": "+e.Detail, why+"; the relay refuses to start", mend)...)
	}
	if len(all) == 0 {
		return fine("the tables, indexes and sequence of schema %s are as they should be", db.cfg.Schema), nil
	}
	return all, nil
}

// unfit says why a reason to refuse an outbox is one, and what mends it.
func (db *database) unfit(ctx context.Context, e *store.SetupError) (why, mend string) {
	s := db.schema()
	switch {
	case errors.Is(e, store.ErrNotMigrated):
		return "there is nothing to write events into, nor to read them from", "millrace migrate up --outbox " + db.cfg.Outbox
	case errors.Is(e, store.ErrPrivilege):
		return "it could not read what is to be published", db.grants(ctx)
	case errors.Is(e, store.ErrSequence):
		return "a session would hold low ids back and use them after another's higher ones: events of one key change places",
			"ALTER SEQUENCE " + s + ".event_id_seq CACHE 1 INCREMENT 1 NO CYCLE; while no writer is at work"
	case errors.Is(e, store.ErrIndex):
		return "a poll would read the whole table", "CREATE INDEX ON " + s + ".event (xid, id); CREATE INDEX ON " + s + ".event (id); whichever is missing"
	case errors.Is(e, store.ErrUnlogged):
		return "the table is empty after a crash", "ALTER TABLE " + s + ".LEAF SET LOGGED; for each leaf that is named"
	}
	return "it could lose events", e.Remedy
}

// grants is what the relay's role needs.
func (db *database) grants(ctx context.Context) string {
	role := "RELAY"
	if err := db.conn.QueryRow(ctx, "select quote_ident(current_user)").Scan(&role); err != nil {
		role = "RELAY" // the statement is a pattern then
	}
	s := db.schema()
	return fmt.Sprintf("GRANT USAGE ON SCHEMA %[1]s TO %[2]s; GRANT SELECT ON ALL TABLES IN SCHEMA %[1]s TO %[2]s; GRANT INSERT, UPDATE ON %[1]s.relay TO %[2]s;", s, role)
}

func migrations(ctx context.Context, db *database) ([]Finding, error) {
	if there, err := db.migrated(ctx); err != nil || !there {
		return nil, err
	}
	states, err := migrate.Status(ctx, db.conn, migrate.WithSchema(db.cfg.Schema))
	if err != nil {
		return nil, err
	}
	var all []Finding
	for _, s := range states {
		switch {
		case s.Unknown:
			all = append(all, found(Warning, fmt.Sprintf("migration %s is newer than this program", s.Migration), "a newer program has been here: this one may not know what it left", "use the newer program everywhere")...)
		case s.Pending():
			all = append(all, found(Error, fmt.Sprintf("migration %s is pending", s.Migration), "this program counts on it", "millrace migrate up --outbox "+db.cfg.Outbox)...)
		case s.Changed:
			all = append(all, found(Warning, fmt.Sprintf("migration %s was applied with another text", s.Migration), "the tables may not be what this program counts on", "compare them with: millrace migrate sql")...)
		}
	}
	if len(all) == 0 {
		return fine("all %d migrations are applied", len(states)), nil
	}
	return all, nil
}

// relayRights are those beyond what the relay refuses to start without: what the migrations 0003 and 0004 name.
func relayRights(ctx context.Context, db *database) ([]Finding, error) {
	var role string
	var all []Finding
	for _, need := range relayNeeds {
		var missing, grants []string
		err := db.conn.QueryRow(ctx, rightsQuery, db.cfg.Schema, need.tables, need.functions).Scan(&role, &missing, &grants)
		if err != nil {
			return nil, err
		}
		if len(missing) > 0 {
			all = append(all, found(Warning, fmt.Sprintf("role %s lacks %s", role, strings.Join(missing, ", ")), need.why, strings.Join(grants, " "))...)
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	return fine("role %s may do what the relay has to", role), nil
}

// relayNeeds are rights, "SELECT ring", by what they are for. Sequences are among the tables.
var relayNeeds = []struct {
	why               string
	tables, functions []string
}{
	{"what an operator asks of the relay (pause, drain, release) would not be answered",
		[]string{"SELECT migration", "INSERT pause", "SELECT pause", "SELECT request", "UPDATE request"}, nil},
	{"published rows would stay in the outbox for ever, and nobody could say how many there are",
		[]string{"SELECT event_id_seq", "SELECT leaf", "SELECT ring"}, []string{"turn_ring", "empty_leaf"}},
}

// rightsQuery looks only at what is there: what is not is told by the migrations.
//
//	$1 schema   $2 "RIGHT table"   $3 functions to execute
const rightsQuery = `
with need as (
	select w.at, split_part(w.need, ' ', 1) p, c.relname::text t,
		case c.relkind when 'S' then has_sequence_privilege(c.oid, split_part(w.need, ' ', 1)) else has_table_privilege(c.oid, split_part(w.need, ' ', 1)) end has,
		case c.relkind when 'S' then 'SEQUENCE ' else '' end || c.oid::regclass on_what
	from unnest($2::text[]) with ordinality w(need, at)
	join pg_class c on c.relname = split_part(w.need, ' ', 2) join pg_namespace n on n.oid = c.relnamespace and n.nspname = $1
	union all
	select 100 + w.at, 'EXECUTE', w.need, has_function_privilege(f.oid, 'EXECUTE'), 'FUNCTION ' || f.oid::regprocedure
	from unnest(coalesce($3::text[], '{}')) with ordinality w(need, at)
	join pg_proc f on f.proname = w.need join pg_namespace n on n.oid = f.pronamespace and n.nspname = $1
)
select quote_ident(current_user), coalesce(array_agg(p || ' on ' || t order by at) filter (where not has), '{}'),
	coalesce(array_agg('GRANT ' || p || ' ON ' || on_what || ' TO ' || quote_ident(current_user) || ';' order by at) filter (where not has), '{}')
from need`

// writerRights looks at every role that may write events: with half of the rights its transactions fail.
func writerRights(ctx context.Context, db *database) ([]Finding, error) {
	if there, err := db.migrated(ctx); err != nil || !there {
		return nil, err
	}
	rows, err := db.conn.Query(ctx, `
		select quote_ident(r.rolname), has_schema_privilege(r.oid, n.oid, 'USAGE'), has_sequence_privilege(r.oid, q.oid, 'USAGE'), has_table_privilege(r.oid, s.oid, 'SELECT')
		from pg_namespace n join pg_class e on e.relnamespace = n.oid and e.relname = 'event' join pg_class q on q.relnamespace = n.oid and q.relname = 'event_id_seq'
			join pg_class s on s.relnamespace = n.oid and s.relname = 'schema', pg_roles r
		where n.nspname = $1 and r.rolcanlogin and not r.rolsuper and has_table_privilege(r.oid, e.oid, 'INSERT') order by 1`, db.cfg.Schema)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Finding
	var able []string
	for rows.Next() {
		var role string
		var usage, sequence, read bool
		if err := rows.Scan(&role, &usage, &sequence, &read); err != nil {
			return nil, err
		}
		if usage && sequence && read {
			able = append(able, role)
			continue
		}
		s := db.schema()
		all = append(all, found(Warning, fmt.Sprintf("role %s may insert events but not all that goes with it", role), "its transactions fail when they write an event",
			fmt.Sprintf("GRANT USAGE ON SCHEMA %[1]s TO %[2]s; GRANT USAGE ON SEQUENCE %[1]s.event_id_seq TO %[2]s; GRANT SELECT ON %[1]s.schema TO %[2]s;", s, role))...)
	}
	switch {
	case rows.Err() != nil:
		return nil, rows.Err()
	case len(all) > 0:
		return all, nil
	case len(able) == 0:
		s := db.schema()
		return found(Note, "no role but superusers may write events", "applications need not be superusers",
			fmt.Sprintf("GRANT USAGE ON SCHEMA %[1]s TO app; GRANT INSERT ON %[1]s.event TO app; GRANT USAGE ON SEQUENCE %[1]s.event_id_seq TO app; GRANT SELECT, INSERT ON %[1]s.schema TO app;", s)), nil
	}
	return fine("may write events: %s", strings.Join(able, ", ")), nil
}

func partitions(ctx context.Context, db *database) ([]Finding, error) {
	if there, err := db.migrated(ctx); err != nil || !there {
		return nil, err
	}
	var leaves, empty int
	err := db.conn.QueryRow(ctx, `select count(*), count(*) filter (where pg_relation_size(relid) = 0)
		from pg_partition_tree(format('%I.event', $1::text)::regclass) where isleaf`, db.cfg.Schema).Scan(&leaves, &empty)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%d of %d partitions are empty and ahead", empty, leaves)
	if empty == 0 {
		return found(Warning, what, "no insert fails, but new rows go among old ones, which then cannot be removed together",
			"see why nothing is removed: outboxes."+db.cfg.Outbox+".retention, a relay that is away, a transaction that stays open"), nil
	}
	return fine("%s", what), nil
}

func leafVacuum(ctx context.Context, db *database) ([]Finding, error) {
	if there, err := db.migrated(ctx); err != nil || !there {
		return nil, err
	}
	var off []string
	err := db.conn.QueryRow(ctx, `select coalesce(array_agg(c.oid::regclass::text order by 1), '{}') from pg_partition_tree(format('%I.event', $1::text)::regclass) t
		join pg_class c on c.oid = t.relid where exists (select from unnest(c.reloptions) o where o ~* '^autovacuum_enabled=(off|false|no|0)$')`, db.cfg.Schema).Scan(&off)
	if err != nil {
		return nil, err
	}
	if len(off) > 0 {
		return found(Warning, "autovacuum is switched off for "+strings.Join(off, ", "), "they are never frozen: one great freezing pass waits at the end",
			"ALTER TABLE "+off[0]+" RESET (autovacuum_enabled); and so for each"), nil
	}
	return fine("the leaves are vacuumed"), nil
}

func leader(ctx context.Context, db *database) ([]Finding, error) {
	who, err := store.WhoLeads(ctx, db.conn, db.cfg.Schema)
	if err != nil {
		return nil, err
	}
	if wanted, err := store.LookForRequests(ctx, db.conn, db.cfg.Schema, 0); err == nil && wanted.Pause != nil {
		return found(Note, fmt.Sprintf("paused by %s since %s UTC (%s)", wanted.Pause.By, wanted.Pause.Since.UTC().Format(time.DateTime), cmp.Or(wanted.Pause.Reason, "no reason given")),
			"events wait in the table until it is resumed", "millrace relay resume --outbox "+db.cfg.Outbox), nil
	}
	if who == nil {
		return found(Note, "no relay publishes this outbox now", "events wait in the table", "millrace relay --outbox "+db.cfg.Outbox), nil
	}
	return fine("published by %s, process %d of the server", who.Application, who.PID), nil
}
