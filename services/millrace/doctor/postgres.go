package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/services/relay"
)

// database is an outbox's database, with two connections to it.
type database struct {
	cfg         relay.Config
	conn, other *pgx.Conn
}

var serverChecks = []check[*database]{
	{"version", version},
	{"primary", primary},
	{"direct", direct},
	{"fsync", fsync},
	{"full_page_writes", fullPageWrites},
	{"connections", connections},
	{"autovacuum", autovacuum},
	{"transactions", transactions},
	{"prepared", prepared},
}

func (s Site) postgres(ctx context.Context, o relay.Config) []Finding {
	db := &database{cfg: o}
	for _, c := range []**pgx.Conn{&db.conn, &db.other} {
		cfg, err := pgx.ParseConfig(o.Postgres)
		if err != nil {
			return s.away("postgres", o.Outbox, "nothing can be published", errors.New("the connection string cannot be read"))
		}
		cfg.RuntimeParams["application_name"] = "millrace doctor"
		// A pooler may not keep prepared statements; it is to be found, not to be stumbled over.
		cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
		if *c, err = pgx.ConnectConfig(ctx, cfg); err != nil {
			return s.away("postgres", o.Outbox, "nothing can be published; writers wait or fail, too", err)
		}
		defer func() { _ = (*c).Close(context.WithoutCancel(ctx)) }()
	}
	all := examine(ctx, "postgres", o.Outbox, db, serverChecks)
	return append(all, examine(ctx, "postgres", o.Outbox, db, outboxChecks)...)
}

// setting reads one of the server's settings.
func (db *database) setting(ctx context.Context, name string) (value string, err error) {
	err = db.conn.QueryRow(ctx, "select current_setting($1)", name).Scan(&value)
	return value, err
}

func alter(setting, value string) string {
	return fmt.Sprintf("ALTER SYSTEM SET %s = %s; SELECT pg_reload_conf();", setting, value)
}

const oldestServer = 14

func version(ctx context.Context, db *database) ([]Finding, error) {
	text, err := db.setting(ctx, "server_version")
	if err != nil {
		return nil, err
	}
	var number int
	if err := db.conn.QueryRow(ctx, "select current_setting('server_version_num')::int / 10000").Scan(&number); err != nil {
		return nil, err
	}
	if number < oldestServer {
		return found(Error, "PostgreSQL "+text, "the relay needs what came with PostgreSQL 14: transaction ids of 64 bits and snapshots of them", "upgrade to PostgreSQL 14 or newer"), nil
	}
	return fine("PostgreSQL %s", text), nil
}

func primary(ctx context.Context, db *database) ([]Finding, error) {
	var standby bool
	if err := db.conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil {
		return nil, err
	}
	if standby {
		return found(Error, "this is a standby", "its snapshots do not list running transactions: events would be lost, so the relay refuses it",
			"name the primary in outboxes."+db.cfg.Outbox+".postgres, or several hosts and target_session_attrs=read-write"), nil
	}
	return fine("this is the primary"), nil
}

// direct finds a pooler between us and the server. A pooler makes up the process id that a client gets when it connects; one in
// transaction mode also gives two idle clients the same process.
func direct(ctx context.Context, db *database) ([]Finding, error) {
	var one, two uint32
	if err := db.conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&one); err != nil {
		return nil, err
	}
	if err := db.other.QueryRow(ctx, "select pg_backend_pid()").Scan(&two); err != nil {
		return nil, err
	}
	mend := "name the server itself in outboxes." + db.cfg.Outbox + ".postgres; applications may go on through the pooler"
	switch {
	case one == two:
		return found(Error, "the connection goes through a pooler in transaction mode", "two sessions share one server process: the lock that elects the leading relay does not hold", mend), nil
	case one != db.conn.PgConn().PID() || two != db.other.PgConn().PID():
		return found(Warning, "the connection goes through a pooler", "in transaction mode the lock that elects the leading relay does not hold; in session mode it costs time only", mend), nil
	}
	return fine("the connection is direct"), nil
}

func fsync(ctx context.Context, db *database) ([]Finding, error) {
	value, err := db.setting(ctx, "fsync")
	if err != nil {
		return nil, err
	}
	const why = "a crash loses commits that were already published, or publishes what never was committed"
	switch {
	case value == "on":
		return fine("fsync is on"), nil
	case db.cfg.AllowFsyncOff:
		return found(Warning, "fsync is "+value+", as outboxes."+db.cfg.Outbox+".allow_fsync_off accepts", why, alter("fsync", "on")), nil
	}
	return found(Error, "fsync is "+value, why+"; the relay refuses to start", alter("fsync", "on")), nil
}

func fullPageWrites(ctx context.Context, db *database) ([]Finding, error) {
	value, err := db.setting(ctx, "full_page_writes")
	if err != nil || value == "on" {
		return fine("full_page_writes is on"), err
	}
	return found(Warning, "full_page_writes is "+value, "unless the file system never tears a page, a crash can leave broken ones behind, the outbox's too", alter("full_page_writes", "on")), nil
}

// needed is how many sessions a leading relay and its standby take, with one for a person.
const needed = 10

func connections(ctx context.Context, db *database) ([]Finding, error) {
	var limit, used int
	err := db.conn.QueryRow(ctx, `select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
		(select count(*) from pg_stat_activity where backend_type = 'client backend')`).Scan(&limit, &used)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%d of %d connections are taken", used, limit)
	if limit-used < needed {
		return found(Warning, what, "a relay that connects anew, or its standby, may find none left", fmt.Sprintf("ALTER SYSTEM SET max_connections = %d; and restart the server, or close what nobody uses", 2*limit)), nil
	}
	return fine("%s", what), nil
}

func autovacuum(ctx context.Context, db *database) ([]Finding, error) {
	value, err := db.setting(ctx, "autovacuum")
	if err != nil {
		return nil, err
	}
	if value != "on" {
		return found(Warning, "autovacuum is "+value, "the outbox is never frozen nor its visibility map kept: polls get slower, and one great freezing pass waits at the end", alter("autovacuum", "on")), nil
	}
	var track string
	if track, err = db.setting(ctx, "track_counts"); err != nil || track == "on" {
		return fine("autovacuum is on"), err
	}
	return found(Warning, "track_counts is "+track, "autovacuum does not know what to do without it", alter("track_counts", "on")), nil
}

// Variables for the sake of tests.
var (
	// longOpen is how old a transaction is that a person should know of, tooLong one that keeps what others need.
	longOpen = 5 * time.Minute
	tooLong  = time.Hour
)

// transactions finds the session with the oldest transaction that holds back others: one with an id of its own, or with a snapshot.
func transactions(ctx context.Context, db *database) ([]Finding, error) {
	var pid uint32
	var user, application, database, state string
	var wrote bool
	var begun, asked *time.Time
	var age float64
	err := db.conn.QueryRow(ctx, `
		select pid, coalesce(usename, '?'), coalesce(nullif(application_name, ''), '?'), coalesce(datname, '?'), coalesce(state, '?'), backend_xid is not null,
			xact_start, query_start, extract(epoch from clock_timestamp() - xact_start)::float8
		from pg_stat_activity where xact_start is not null and pid <> pg_backend_pid() and backend_type = 'client backend'
			and (backend_xid is not null or backend_xmin is not null)
		order by xact_start limit 1`).Scan(&pid, &user, &application, &database, &state, &wrote, &begun, &asked, &age)
	if errors.Is(err, pgx.ErrNoRows) {
		return fine("no transaction is open"), nil
	}
	if err != nil {
		return nil, err
	}
	open := time.Duration(age * float64(time.Second)).Round(time.Second)
	kind := "a snapshot"
	if wrote {
		kind = "a transaction id"
	}
	what := fmt.Sprintf("the oldest transaction is open for %v and holds %s: process %d, user %s, application %s, database %s, %s", open, kind, pid, user, application, database, state)
	if asked != nil {
		what += ", last statement begun " + asked.UTC().Format(time.RFC3339)
	}
	severity := OK
	switch {
	case open >= tooLong:
		severity = Warning
	case open >= longOpen:
		severity = Note
	default:
		return fine("the oldest transaction is open for %v", open), nil
	}
	return found(severity, what, "its own events are late, nobody else's; but published rows younger than it cannot be removed, nor vacuum do its work",
		fmt.Sprintf("SELECT pg_terminate_backend(%d);", pid)), nil
}

func prepared(ctx context.Context, db *database) ([]Finding, error) {
	rows, err := db.conn.Query(ctx, `select gid, owner::text, database::text, prepared, extract(epoch from clock_timestamp() - prepared)::float8
		from pg_prepared_xacts order by prepared limit 5`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Finding
	for rows.Next() {
		var gid, owner, database string
		var at time.Time
		var age float64
		if err := rows.Scan(&gid, &owner, &database, &at, &age); err != nil {
			return nil, err
		}
		open := time.Duration(age * float64(time.Second)).Round(time.Second)
		severity := Note
		if open >= longOpen {
			severity = Warning
		}
		all = append(all, found(severity, fmt.Sprintf("transaction %q of %s in database %s is prepared since %s, for %v", gid, owner, database, at.UTC().Format(time.RFC3339), open),
			"it outlives its session and restarts of the server; its events wait for whoever ends it, and vacuum waits, too",
			fmt.Sprintf("COMMIT PREPARED %[1]s; or ROLLBACK PREPARED %[1]s; in that database", quoteText(gid)))...)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return fine("no transaction is prepared"), nil
	}
	return all, nil
}
