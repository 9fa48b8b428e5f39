package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

func migrated(t *testing.T, db *harness.PostgresDB) *pgx.Conn {
	t.Helper()
	conn := db.Conn(t)
	if _, err := migrate.Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// look looks at one database.
func look(t *testing.T, dsn string) Report {
	t.Helper()
	s := Site{Explain: func(err error) error { return err }}
	return Report{s.postgres(t.Context(), relay.Config{Outbox: "shop", Postgres: dsn}.WithDefaults())}
}

func TestFaultsOfAnOutbox(t *testing.T) {
	t.Parallel()
	role := harness.Unique("writer")
	db := harness.Postgres(t)
	conn := migrated(t, db)
	faults := []struct {
		check, spoil string
		severity     Severity
		what, mend   string
	}{
		{"outbox", "alter sequence outbox.event_id_seq cache 32", Error, "cache 32", "CACHE 1"},
		{"outbox", "drop index outbox.event_xid_id_idx", Error, "(xid, id)", "CREATE INDEX ON"},
		{"outbox", "alter table outbox.event_3 set unlogged", Error, "event_3", "SET LOGGED"},
		{"migrations", "delete from outbox.migration where version = 2", Error, "pending", "millrace migrate up --outbox shop"},
		{"migrations", "update outbox.migration set checksum = 'x' where version = 1", Warning, "another text", "millrace migrate sql"},
		{"migrations", "insert into outbox.migration (version, name, checksum) values (9999, 'later', 'x')", Warning, "newer than this program", "newer program"},
		{"rights of the writers", fmt.Sprintf(`create role %q login; grant usage on schema outbox to %[1]q; grant insert on outbox.event to %[1]q`, role), Warning, role, "GRANT USAGE ON SEQUENCE"},
		{"partitions", `insert into outbox.event (id, topic, key, type, schema_fp, payload) select i << 32, 't', 'k', 'x', '\x00000000000000000000000000000000', '' from generate_series(0::bigint, 7) i`,
			Warning, "0 of 8 partitions", "retention"},
		{"autovacuum of leaves", "alter table outbox.event_2 set (autovacuum_enabled = off)", Warning, "event_2", "RESET (autovacuum_enabled)"},
	}
	for _, f := range faults {
		run(t, conn, f.spoil)
	}
	r := look(t, db.DSN)
	for _, f := range faults {
		r.wants(t, f.check, f.severity, f.what, f.mend)
	}
	run(t, conn, "drop table outbox.relay")
	look(t, db.DSN).wants(t, "outbox", Error, "has no relay", "millrace migrate up --outbox shop")
	run(t, conn, fmt.Sprintf("drop owned by %q; drop role %[1]q", role))
}

// What a role of the relay lacks is named, with the statement that grants it.
func TestRightsOfTheRelay(t *testing.T) {
	t.Parallel()
	server := harness.PostgresServer(t, harness.PostgresOptions{})
	db := server.Database(t)
	conn := migrated(t, db)
	run(t, conn, `create role carrier login`)
	cfg, err := pgx.ParseConfig(db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	dsn := fmt.Sprintf("postgres://carrier@127.0.0.1:%d/%s?sslmode=disable", server.Port, cfg.Database)
	r := look(t, dsn)
	r.wants(t, "outbox", Error, "role carrier lacks", "GRANT USAGE ON SCHEMA \"outbox\" TO carrier;")
	run(t, conn, r.finding(t, "outbox", "lacks").Mend) // what it says is what mends it
	r = look(t, dsn)
	r.wants(t, "outbox", OK, "as they should be", "")
	r.wants(t, "rights of the relay", Warning, "carrier lacks INSERT on pause, UPDATE on request", "GRANT INSERT ON")
	r.wants(t, "rights of the relay", Warning, "carrier lacks SELECT on event_id_seq, EXECUTE on turn_ring, EXECUTE on empty_leaf", "GRANT SELECT ON SEQUENCE outbox.event_id_seq TO carrier;")
	run(t, conn, r.finding(t, "rights of the relay", "on request").Mend)
	run(t, conn, r.finding(t, "rights of the relay", "turn_ring").Mend)
	look(t, dsn).nothing(t)
}

func TestFaultsOfAServer(t *testing.T) {
	server := harness.PostgresServer(t, harness.PostgresOptions{Settings: map[string]string{"max_prepared_transactions": "5", "max_connections": "25"}})
	db := server.Database(t)
	conn := migrated(t, db)
	look(t, db.DSN).nothing(t)

	for _, c := range []struct {
		check, setting string
		severity       Severity
	}{{"fsync", "fsync", Error}, {"full_page_writes", "full_page_writes", Warning}, {"autovacuum", "autovacuum", Warning}, {"autovacuum", "track_counts", Warning}} {
		run(t, conn, "alter system set "+c.setting+" = off")
		run(t, conn, "select pg_reload_conf()")
		await(t, func() bool { return setting(t, conn, c.setting) == "off" })
		r := look(t, db.DSN)
		r.wants(t, c.check, c.severity, c.setting+" is off", "ALTER SYSTEM SET "+c.setting+" = on")
		run(t, conn, "alter system reset "+c.setting)
		run(t, conn, "select pg_reload_conf()")
		await(t, func() bool { return setting(t, conn, c.setting) == "on" })
	}

	// A transaction that stays open, and one that is prepared.
	defer func(a, b time.Duration) { longOpen, tooLong = a, b }(longOpen, tooLong)
	longOpen, tooLong = 0, 0
	other := db.Conn(t)
	run(t, other, "set application_name = 'report of the month'; begin; select pg_current_xact_id()")
	r := look(t, db.DSN)
	pid := other.PgConn().PID()
	r.wants(t, "transactions", Warning, fmt.Sprintf("process %d, user postgres, application report of the month", pid), fmt.Sprintf("pg_terminate_backend(%d)", pid))
	r.wants(t, "transactions", Warning, "holds a transaction id", "")
	run(t, other, "rollback; begin isolation level repeatable read; select 1")
	look(t, db.DSN).wants(t, "transactions", Warning, "holds a snapshot", "")
	run(t, other, "rollback; begin; select pg_current_xact_id(); prepare transaction 'month''s'")
	look(t, db.DSN).wants(t, "prepared", Warning, `"month's"`, "ROLLBACK PREPARED 'month''s'")
	run(t, other, "rollback prepared 'month''s'")

	for range 9 {
		db.Conn(t)
	}
	look(t, db.DSN).wants(t, "connections", Warning, "of 20 connections", "max_connections")

	server.Stop(t)
	signal := filepath.Join(server.DataDir, "standby.signal")
	if err := os.WriteFile(signal, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	server.Start(t)
	look(t, db.DSN).wants(t, "primary", Error, "standby", "outboxes.shop.postgres")
}

func setting(t *testing.T, conn *pgx.Conn, name string) (value string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "select current_setting($1)", name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// await waits until a condition holds.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); !holds(); {
		select {
		case <-ctx.Done():
			t.Fatal("not within a minute")
		case <-tick.C:
		}
	}
}

// A pooler is found in whatever mode: as an error in the one that breaks the lock of the leader.
func TestPoolersAreFound(t *testing.T) {
	t.Parallel()
	db := harness.Postgres(t)
	migrated(t, db)
	look(t, harness.PgBouncer(t, db.DSN, "transaction", 2)).wants(t, "direct", Error, "transaction mode", "outboxes.shop.postgres")
	look(t, harness.PgBouncer(t, db.DSN, "session", 4)).wants(t, "direct", Warning, "goes through a pooler", "outboxes.shop.postgres")
	look(t, db.DSN).wants(t, "direct", OK, "direct", "")
}
