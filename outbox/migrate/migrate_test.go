package migrate_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/test/harness"
)

const strangeName = `we"ird'na%me \ {x}`

func TestUpAppliesEachMigrationOnce(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"outbox", strangeName} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			conn := harness.Postgres(t).Conn(t)
			first := up(t, conn, schema)
			if len(first) < 2 || first[0].String() != "0001_outbox" {
				t.Fatalf("applied %v", first)
			}
			if again := up(t, conn, schema); len(again) != 0 {
				t.Errorf("a second run applied %v", again)
			}
			for _, st := range status(t, conn, schema) {
				if st.Pending() || st.Changed || st.Unknown {
					t.Errorf("after Up: %+v", st)
				}
			}
		})
	}
}

func TestUpOnDatabaseSQL(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("pgx", harness.Postgres(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	done, err := migrate.Up(t.Context(), db)
	if err != nil || len(done) == 0 {
		t.Fatalf("applied %v, %v", done, err)
	}
	states, err := migrate.Status(t.Context(), db)
	if err != nil || states[0].Pending() {
		t.Errorf("status %+v, %v", states, err)
	}
}

func TestUpBySeveralAtOnce(t *testing.T) {
	t.Parallel()
	pool := harness.Postgres(t).Pool(t)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards the following
	times := map[int]int{}
	for range 8 {
		wg.Go(func() {
			done, err := migrate.Up(t.Context(), pool)
			if err != nil {
				t.Errorf("one of several: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, m := range done {
				times[m.Version]++
			}
		})
	}
	wg.Wait()
	states, err := migrate.Status(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range states {
		if times[st.Version] != 1 {
			t.Errorf("%s was applied %d times", st.Migration, times[st.Version])
		}
	}
}

func TestUpRefusesAChangedMigration(t *testing.T) {
	t.Parallel()
	conn := harness.Postgres(t).Conn(t)
	up(t, conn, "")
	exec(t, conn, "update outbox.migration set checksum = 'other' where version = 1")
	if _, err := migrate.Up(t.Context(), conn); !errors.Is(err, migrate.ErrChanged) {
		t.Errorf("got %v, want ErrChanged", err)
	}
	if st := status(t, conn, "")[0]; !st.Changed {
		t.Errorf("status does not show the change: %+v", st)
	}
}

func TestUpLeavesANewerDatabaseAlone(t *testing.T) {
	t.Parallel()
	conn := harness.Postgres(t).Conn(t)
	up(t, conn, "")
	exec(t, conn, "insert into outbox.migration (version, name, checksum) values (9999, 'later', 'x')")
	if done := up(t, conn, ""); len(done) != 0 {
		t.Errorf("applied %v", done)
	}
	states := status(t, conn, "")
	if last := states[len(states)-1]; !last.Unknown || last.Version != 9999 {
		t.Errorf("status %+v", last)
	}
}

func TestFailedMigrationLeavesNothing(t *testing.T) {
	t.Parallel()
	conn := harness.Postgres(t).Conn(t)
	exec(t, conn, "create schema outbox; create table outbox.relay ()") // in the way of the last statement
	if _, err := migrate.Up(t.Context(), conn); err == nil || !strings.Contains(err.Error(), "0001_outbox") {
		t.Fatalf("got %v, want an error that names the migration", err)
	}
	var left bool
	query := "select to_regclass('outbox.event') is not null or to_regclass('outbox.migration') is not null"
	if err := conn.QueryRow(t.Context(), query).Scan(&left); err != nil || left {
		t.Errorf("tables were left behind: %v, %v", left, err)
	}
	exec(t, conn, "drop table outbox.relay")
	up(t, conn, "")
}

func TestUpInsideATransaction(t *testing.T) {
	t.Parallel()
	conn := harness.Postgres(t).Conn(t)
	exec(t, conn, "begin")
	if _, err := migrate.Up(t.Context(), conn); !errors.Is(err, migrate.ErrInTransaction) {
		t.Errorf("got %v, want ErrInTransaction", err)
	}
}

// A role that may not create anything, as an application's is, can still call Up on a database that is up to date.
func TestUpToDateNeedsNoRights(t *testing.T) {
	t.Parallel()
	conn := harness.Postgres(t).Conn(t)
	up(t, conn, "")
	exec(t, conn, `grant usage on schema outbox to pg_monitor; grant select on outbox.migration to pg_monitor; set role pg_monitor`)
	if done := up(t, conn, ""); len(done) != 0 {
		t.Errorf("applied %v", done)
	}
}

func TestScriptAppliedByHandCounts(t *testing.T) {
	t.Parallel()
	conn := harness.Postgres(t).Conn(t)
	script, err := migrate.SQL(0, migrate.WithSchema(strangeName))
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, script)
	if done := up(t, conn, strangeName); len(done) != 0 {
		t.Errorf("Up applied %v after the script", done)
	}
	rest, err := migrate.SQL(1)
	if err != nil || strings.Contains(rest, "create sequence") || !strings.Contains(rest, "function") {
		t.Errorf("the script after version 1: %v, %.200s", err, rest)
	}
	if _, err := migrate.SQL(99); err == nil {
		t.Error("a version that is not there was accepted")
	}
}

func TestBadSchemaNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a\x00b", "a\nb", "\xff", "pg_toast", "$millrace$", "{{schema}}", strings.Repeat("x", 64)} {
		if _, err := migrate.SQL(0, migrate.WithSchema(name)); err == nil {
			t.Errorf("schema name %q was accepted", name)
		}
	}
}

// What the relay and the writers rely on is in place, whatever the schema is called.
func TestTableIsAsTheRelayNeedsIt(t *testing.T) {
	t.Parallel()
	conn := harness.Postgres(t).Conn(t)
	up(t, conn, strangeName)
	quoted := pgx.Identifier{strangeName}.Sanitize()
	var leaves, indexes, tuned, cache int64
	err := conn.QueryRow(t.Context(), `
		select count(distinct c.oid), count(i.indexrelid), count(distinct c.oid) filter (where c.reloptions::text like '%insert_threshold%')
		  from pg_inherits h join pg_class c on c.oid = h.inhrelid left join pg_index i on i.indrelid = c.oid
		 where h.inhparent = ($1 || '.event')::regclass`, quoted).Scan(&leaves, &indexes, &tuned)
	if err != nil || leaves != 8 || indexes != 16 || tuned != 8 {
		t.Errorf("%d leaves, %d indexes, %d tuned, %v", leaves, indexes, tuned, err)
	}
	err = conn.QueryRow(t.Context(), `select seqcache from pg_sequence where seqrelid = ($1 || '.event_id_seq')::regclass`, quoted).Scan(&cache)
	if err != nil || cache != 1 {
		t.Errorf("sequence cache %d, %v", cache, err)
	}
}

// Promise 6: no INSERT fails for want of a partition, wherever the sequence stands.
func TestEveryIDHasItsLeaf(t *testing.T) {
	t.Parallel()
	conn := harness.Postgres(t).Conn(t)
	up(t, conn, "")
	for turn := range int64(20) {
		exec(t, conn, "select setval('outbox.event_id_seq', $1)", turn<<32+1)
		exec(t, conn, `insert into outbox.event (topic, key, type, schema_fp, payload) values ('t', 'k', 'x', decode(repeat('00', 16), 'hex'), '')`)
	}
	exec(t, conn, "select setval('outbox.event_id_seq', $1)", int64(1)<<62)
	exec(t, conn, `insert into outbox.event (topic, key, type, schema_fp, payload) values ('t', 'k', 'x', decode(repeat('00', 16), 'hex'), '')`)
	var leaves int
	if err := conn.QueryRow(t.Context(), "select count(distinct tableoid) from outbox.event").Scan(&leaves); err != nil || leaves != 8 {
		t.Errorf("rows in %d leaves, %v", leaves, err)
	}
}

func up(t *testing.T, conn *pgx.Conn, schema string) []migrate.Migration {
	t.Helper()
	done, err := migrate.Up(t.Context(), conn, migrate.WithSchema(schema))
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func status(t *testing.T, conn *pgx.Conn, schema string) []migrate.State {
	t.Helper()
	states, err := migrate.Status(t.Context(), conn, migrate.WithSchema(schema))
	if err != nil {
		t.Fatal(err)
	}
	return states
}

func exec(t *testing.T, conn *pgx.Conn, query string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
