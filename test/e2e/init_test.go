package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// things is a table with every common type, nullable and not, and a name that needs quotes.
const things = `create type mood as enum ('calm', 'wild'); create domain cents as numeric(12,2);
create table things (
  id bigint primary key, flag boolean not null, small smallint, whole integer, r real, d double precision, amount numeric(12,2) not null, price cents, big numeric,
  label text not null, short varchar(20), code char(4), ref uuid, born date, at timestamptz not null, local timestamp, clock time, raw bytea,
  doc jsonb, span interval, state mood, tags text[] not null default '{}', numbers integer[], sums numeric(8,2)[], refs uuid[], "Order No" integer, "in" text);
insert into things select i, i % 2 = 0, i, i * 1000, i + 0.5, i / 8.0, i + 0.25, i * 1.5, i * 1.123456789012345, 'hello thing ' || i, 'short', 'ab', gen_random_uuid(),
  date '2026-01-01' + i, timestamptz '2026-01-01 10:00:00.123456+00' + i * interval '1 minute', timestamp '2026-01-01 10:00:00' + i * interval '1 second',
  time '12:30:00.5', decode(lpad(to_hex(i), 8, '0'), 'hex'), '{"a": [1, null]}', interval '1 day 02:00:00', 'wild', array['x', 'y ' || i], array[i, null, 3], array[1.50, i + 0.25],
  array[gen_random_uuid()], i * 7, 'word' from generate_series(1, 20) i;
insert into things (id, flag, amount, label, at) values (21, true, 0, 'nothing else', now());`

// columns are told alike by PostgreSQL and DuckDB.
var thingColumns = []struct{ postgres, duckdb string }{
	{"flag", "flag"}, {"small", "small"}, {"whole", "whole"}, {"(r * 2)::bigint", "(r * 2)::bigint"}, {"(d * 8)::bigint", "(d * 8)::bigint"}, {"amount", "amount"}, {"price", "price"}, {"big", "big"}, {"label", "label"},
	{"short", `"short"`}, {"trim(code)", "trim(code)"}, {"ref", `"ref"`}, {"born", "born"},
	{"(extract(epoch from at) * 1000000)::bigint", `epoch_us("at")`}, {"(extract(epoch from local) * 1000000)::bigint", `epoch_us("local")`},
	{"upper(encode(raw, 'hex'))", "hex(raw)"}, {"doc::text", "doc"}, {"span::text", "span"}, {"state", `"state"`}, {"clock is null", "clock is null"},
	{"array_to_string(tags, ',')", "array_to_string(tags, ',')"}, {"array_to_string(numbers, ',')", "array_to_string(numbers, ',')"},
	{"array_to_string(sums, ',')", "array_to_string(sums, ',')"}, {"array_to_string(refs, ',')", "array_to_string(refs, ',')"},
	{`"Order No"`, "order_no"}, {`"in"`, "in_"},
}

// From a table that is there already to a warehouse and an index, by what init writes and the commands that it names; then its writers add
// the lines that it wrote.
func TestFromATableToASink(t *testing.T) {
	t.Parallel()
	s, broker, db := realSite(t)
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), things); err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(harness.Unique("init"), "-", "_")
	topic := name + ".thing"
	broker.DeleteAtEnd(t, topic, "__millrace."+name+".cursor", "__millrace."+name+".parked")
	env := strings.Join(s.env, "\n")
	kafka := strings.SplitN(strings.SplitN(env, "KAFKA=", 2)[1], "\n", 2)[0]
	registry := strings.SplitN(strings.SplitN(env, "REGISTRY=", 2)[1], "\n", 2)[0]
	args := []string{"init", "made", "--from-table", "things", "--name", name, "--kafka", kafka, "--registry", registry}
	if said := s.fails(2, "init", "made"); !strings.Contains(said, "--from-table orders") {
		t.Errorf("%s", said)
	}
	if said := s.fails(1, "init", "made", "--from-table", "nothing"); !strings.Contains(said, `there is no table "nothing"`) {
		t.Errorf("%s", said)
	}
	said := s.ok(args...)
	for _, want := range []string{"wrote made/millrace.yaml", "27 columns", "millrace backfill thing", "WRITERS-thing.md"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	if said := s.fails(1, args...); !strings.Contains(said, "is there already: nothing was written") {
		t.Errorf("%s", said)
	}

	made := *s
	made.dir = filepath.Join(s.dir, "made")
	if said := made.ok("config", "check"); !strings.Contains(said, "1 outbox, 2 schemas, 1 projection, 2 sinks") {
		t.Errorf("%s", said)
	}
	// Names on a shared broker are made unique.
	made.edit("millrace.yaml", "  warehouse:", "  "+name+"-warehouse:")
	made.edit("millrace.yaml", "  search:", "  "+name+"-search:")
	made.edit("millrace.yaml", "partitions: 12", "partitions: 2")
	made.edit("millrace.yaml", "projections:", "http: {listen: \"${LISTEN}\"}\nprojections:")
	made.setUp()
	if said := made.ok("backfill", "thing", "--dry-run"); !strings.Contains(said, "21 rows would become events") {
		t.Errorf("%s", said)
	}
	if said := made.ok("backfill", "thing"); !strings.Contains(said, "21 rows became events") {
		t.Errorf("%s", said)
	}
	made.start("up")
	made.waitStatus("the sinks have every row", caughtUp(21))
	compareThings(t, &made, db)

	saved, deleted := writerLines(t, filepath.Join(made.dir, "WRITERS-thing.md"))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		sql string
		id  int64
	}{
		{"update things set amount = 99.75, tags = '{new}', raw = null, label = 'changed' where id = $1", 5}, {saved, 5}, {"delete from things where id = $1", 6}, {deleted, 6},
	} {
		if _, err := tx.Exec(t.Context(), step.sql, step.id); err != nil {
			t.Fatalf("%s: %v", step.sql, err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	made.waitStatus("the sinks have the changes", caughtUp(23))
	compareThings(t, &made, db)
	if said := made.ok("search", "thing", "changed"); !strings.Contains(said, "99.75") {
		t.Errorf("%s", said)
	}
}

// writerLines returns the first two blocks of SQL of what init wrote for writers.
func writerLines(t *testing.T, path string) (saved, deleted string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "```sql\n")
	if len(parts) != 3 {
		t.Fatalf("%d blocks of SQL:\n%s", len(parts)-1, text)
	}
	return strings.SplitN(parts[1], "```", 2)[0], strings.SplitN(parts[2], "```", 2)[0]
}

// compareThings holds the warehouse against the table, column by column.
func compareThings(t *testing.T, s *site, db *harness.PostgresDB) {
	t.Helper()
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), "set timezone = 'UTC'"); err != nil {
		t.Fatal(err)
	}
	for _, c := range thingColumns {
		var want string
		if err := conn.QueryRow(t.Context(), "select string_agg(id || '=' || coalesce(("+c.postgres+")::text, 'null'), ';' order by id) from things").Scan(&want); err != nil {
			t.Fatalf("%s: %v", c.postgres, err)
		}
		got := s.sql("select string_agg(id || '=' || coalesce((" + c.duckdb + ")::varchar, 'null'), ';' order by id) from silver.thing")
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s\n got %q\nwant %q", c.duckdb, got, want)
		}
	}
}
