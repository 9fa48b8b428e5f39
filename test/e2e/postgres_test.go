package e2e

import (
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// The warehouse in a file and the one on a server are asked by the same command and answer the same.
func TestWarehouseOnPostgres(t *testing.T) {
	t.Parallel()
	s, _, db := realSite(t)
	warehouse := harness.Postgres(t) // a database of its own, not the application's
	s.write("password", "s3cret\n")
	s.edit("millrace.yaml", "{kind: duckdb, path: data/warehouse.duckdb, ", `{kind: postgres, url: "`+warehouse.DSN+`", password: "${file:password}", `)
	s.ok("config", "check")
	if printed := s.ok("config", "print"); strings.Contains(printed, "s3cret") || !strings.Contains(printed, "kind: postgres") {
		t.Errorf("config print:\n%s", printed)
	}
	s.setUp()
	up := s.start("up")
	s.writeEvents(db)
	s.waitStatus("everything is published and applied", caughtUp(6))
	golden(t, "sql", s.ok("sql", "select _key, status, city, weight_g, postage, size, depot, handed_to from silver.parcel order by _key"))
	golden(t, "sql-bronze", s.ok("sql", "select type, count(*) as events from bronze.events group by type order by type"))
	s.checkReadOnlyOnPostgres()

	// Who works with BI tools needs no millrace: the same rows are there for any client.
	var depot string
	if err := warehouse.Conn(t).QueryRow(t.Context(), "select name from silver.depot").Scan(&depot); err != nil || depot != "North" {
		t.Errorf("a client of its own reads %q, %v", depot, err)
	}
	if code := up.Stop(t, 30*time.Second); code != 0 || strings.Contains(up.Output(), "s3cret") || strings.Contains(up.Output(), "level=ERROR") {
		t.Errorf("up ended with %d:\n%s", code, up.Output())
	}

	// A restart finds its position in the database, and applies nothing again.
	up = s.start("up")
	emit(t, db.Conn(t), "post.ParcelMoved", moved("p1", "d9"))
	s.waitStatus("the next event is applied", caughtUp(7))
	if got := s.sql("select count(*), count(distinct event_id) from bronze.events"); len(got) != 1 || got[0] != "7 7" {
		t.Errorf("after a restart bronze has %q events, and distinct ones", got)
	}
	if code := up.Stop(t, 30*time.Second); code != 0 {
		t.Errorf("up ended with %d:\n%s", code, up.Output())
	}
}

// checkReadOnlyOnPostgres asks the warehouse for what it must not do.
func (s *site) checkReadOnlyOnPostgres() {
	for _, statement := range []string{
		"drop table silver.parcel", "delete from silver.parcel", "with x as (delete from millrace.positions returning 1) select 1", "insert into silver.parcel select * from silver.parcel",
		"copy silver.parcel to '/dev/null'", "set role postgres", "select pg_terminate_backend(pid) from pg_stat_activity", "select pg_read_file('/etc/passwd')",
		"select set_config('transaction_read_only', 'off', false)", "select 1; drop table millrace.positions", "commit", "select lo_import('/etc/passwd')",
	} {
		said := s.fails(1, "sql", statement)
		if !strings.HasPrefix(said, "millrace: ") || strings.Contains(said, "root:") {
			s.t.Errorf("%s\n%s", statement, said)
		}
	}
	if got := s.sql("select count(*) from silver.parcel"); len(got) != 1 || got[0] != "2" {
		s.t.Errorf("after all that: %q", got)
	}
	if said := s.fails(1, "sql", "select count(*) from generate_series(1, 10000000000)", "--timeout", "300ms"); !strings.Contains(said, "took too long") {
		s.t.Errorf("a question without end: %s", said)
	}
}

// checkMetrics looks for every metric of the table in consumers/README.md, but for those of sinks that do not run here.
func (s *site) checkMetrics() {
	s.t.Helper()
	table, err := os.ReadFile("../../consumers/README.md")
	if err != nil {
		s.t.Fatal(err)
	}
	served := s.get("/metrics")
	looked := 0
	for _, row := range strings.Split(string(table), "\n") {
		if !strings.HasPrefix(row, "| `millrace_") || strings.Contains(row, "(DuckDB)") || otherSinks.MatchString(row) {
			continue
		}
		for _, name := range metricNames.FindAllString(row, -1) {
			looked++
			if !regexp.MustCompile(`(?m)^` + name + `(_count)?\{[^}]*sink="`).MatchString(served) {
				s.t.Errorf("/metrics has no %s of a sink", name)
			}
		}
	}
	if looked < 20 {
		s.t.Errorf("the table has %d metrics", looked)
	}
}

var metricNames = regexp.MustCompile(`millrace_[a-z_]+`)

// otherSinks are the rows of metrics that the sinks of these tests do not have: webhooks, and models over silver.
var otherSinks = regexp.MustCompile("^\\| `millrace_(webhook|gold)_")

// A warehouse server that is away at the start and is cut off later is waited for, with a line when that begins and one when it ends, and
// /readyz says which sink waits and for what. The same for a search server.
func TestSinksOnServersThatAreAwayAreWaitedFor(t *testing.T) {
	t.Parallel()
	search := harness.OpenSearch(t)
	s, _, db := realSite(t)
	warehouse := harness.Postgres(t)
	prefix := harness.Unique("e2e")
	t.Cleanup(func() { deleteIndices(t, search, prefix) })
	through := func(address string) (*proxy, string) {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		p := newProxy(t, u.Host)
		u.Host = p.addr
		return p, u.String()
	}
	toWarehouse, dsn := through(warehouse.DSN)
	toSearch, address := through(search)
	s.edit("millrace.yaml", "{kind: duckdb, path: data/warehouse.duckdb, ", `{kind: postgres, url: "`+dsn+`", `)
	s.edit("millrace.yaml", "{kind: bleve, path: data/search, entities: [parcel]}",
		`{kind: opensearch, url: "`+address+`", index_prefix: `+prefix+`, refresh_interval: 50ms, entities: [parcel]}`)
	s.setUp()
	conn := db.Conn(t)
	up := s.start("up")
	both := []struct {
		role string
		way  *proxy
	}{{"sink " + s.name + "-warehouse", toWarehouse}, {"sink " + s.name + "-search", toSearch}}
	for _, b := range both {
		s.waitReady(b.role, false)
	}
	emit(t, conn, "post.DepotOpened", `{"depot_id":"d1","name":"North","city":"Kiel"}`)
	emit(t, conn, "post.ParcelAccepted", accepted("p1", "Bremen"))
	for _, b := range both {
		b.way.back()
		s.waitReady(b.role, true)
	}
	s.waitStatus("everything came up by itself", caughtUp(2))
	s.checkMetrics()
	for i, b := range both {
		before := len(up.Output())
		b.way.away()
		emit(t, conn, "post.ParcelMoved", moved("p1", "d1")) // something to do, so that it is missed
		s.waitReady(b.role, false)
		if text := s.readyText(); !strings.Contains(text, b.role+": waiting for sink") {
			t.Errorf("/readyz says\n%s", text)
		}
		b.way.back()
		s.waitReady(b.role, true)
		s.waitStatus("events flow again", caughtUp(int64(3+i)))
		if n := strings.Count(up.Output()[before:], "\n"); n > 6 {
			t.Errorf("%d lines of an outage:\n%s", n, up.Output()[before:])
		}
	}
	if code := up.Stop(t, patience); code != 0 {
		t.Errorf("up ended with %d:\n%s", code, up.Output())
	}
}
