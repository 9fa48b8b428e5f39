package e2e

import (
	"context"
	"io"
	"math/big"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers/cache/client"
	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/test/harness"
)

// A person with a folder of schemas and projections gets from nothing to answers with the commands of the README, and every command
// says what it did.
func TestFromAnEmptyDatabaseToAnswers(t *testing.T) {
	t.Parallel()
	s, _, db := realSite(t)

	golden(t, "config-check", s.ok("config", "check"))
	golden(t, "status-before", s.fails1("status")) // no table yet
	golden(t, "migrate-status-pending", s.fails1("migrate", "status"))
	golden(t, "migrate-up", s.ok("migrate", "up"))
	golden(t, "migrate-up-again", s.ok("migrate", "up"))
	golden(t, "migrate-status", s.ok("migrate", "status"))
	golden(t, "schema-push", s.ok("schema", "push"))
	golden(t, "schema-push-again", s.ok("schema", "push"))
	golden(t, "schema-list", s.ok("schema", "list"))
	golden(t, "status-not-begun", s.ok("status"))
	golden(t, "parked-none", s.ok("parked", "list"))
	printed := s.ok("migrate", "print")
	for _, want := range []string{"0001_outbox", "create table", "emit"} {
		if !strings.Contains(strings.ToLower(printed), want) {
			t.Errorf("migrate print lacks %q", want)
		}
	}

	up := s.start("up")
	up.WaitLine(t, "msg=started", patience)
	s.writeEvents(db)
	s.waitStatus("everything is published and applied", caughtUp(6))

	golden(t, "status", s.ok("status"))
	golden(t, "sql", s.ok("sql", "select _key, status, city, weight_g, postage, size, depot, handed_to from silver.parcel order by _key"))
	golden(t, "sql-bronze", s.ok("sql", "select type, count(*) as events from bronze.events group by type order by type"))
	golden(t, "search", s.ok("search", "parcel", "status:delivered", "--sort", "weight_g"))
	golden(t, "search-none", s.ok("search", "parcel", "city:nowhere"))
	s.checkReadOnly()
	s.checkJSON(up)
	s.checkServer()

	if code := up.Stop(t, 30*time.Second); code != 0 {
		t.Errorf("up ended with %d:\n%s", code, up.Output())
	}
	if strings.Contains(up.Output(), "level=ERROR") || strings.Contains(up.Output(), "sink="+s.name+"-search sink=") {
		t.Errorf("its log:\n%s", up.Output())
	}
	golden(t, "status-stopped", s.ok("status"))
	golden(t, "nothing-answers", s.fails(1, "sql", "select 1"))
}

// fails1 runs a command that says no by exit status 1, and returns what it printed on standard output.
func (s *site) fails1(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != 1 {
		s.t.Fatalf("millrace %s: status %d and not 1\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// writeEvents writes six events in three ways: SQL, a Go record and a Go struct.
func (s *site) writeEvents(db *harness.PostgresDB) {
	t, ctx := s.t, s.t.Context()
	conn := db.Conn(t)
	emit(t, conn, "post.DepotOpened", `{"depot_id":"d1","name":"North","city":"Kiel"}`)
	emit(t, conn, "post.ParcelAccepted", accepted("p1", "Bremen"))
	emit(t, conn, "post.ParcelMoved", moved("p1", "d1"))

	catalogue, err := schemas.LoadDir(filepath.Join(s.dir, "schemas"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := outbox.New(ctx, db.Pool(t), catalogue)
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		return out.Write(ctx, tx,
			outbox.Record{Type: "post.ParcelAccepted", Fields: map[string]any{
				"parcel_id": "p2", "to": map[string]any{"street": "Nordstraße 2", "city": "Kiel"}, "weight_g": 80,
				"postage": big.NewRat(160, 100), "size": "LETTER", "accepted_at": time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC),
			}},
			parcelMoved{ParcelID: "p2", Depot: "d1", MovedAt: time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)})
	})
	if err != nil {
		t.Fatal(err)
	}
	emit(t, conn, "post.ParcelDelivered", delivered("p1", "A. Berg"))

	// What is rolled back never was, and what is refused is refused in the application's own transaction.
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "select outbox.emit('post.ParcelMoved', null, $1)", moved("p1", "nowhere")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`{"parcel_id":"p9"}`: "required field depot is missing",
		`[]`:                 "object",
	} {
		if _, err := conn.Exec(ctx, "select outbox.emit('post.ParcelMoved', null, $1)", body); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("emit %s: %v, want %q", body, err, want)
		}
	}
	if _, err := conn.Exec(ctx, "select outbox.emit('post.Nothing', null, '{}')"); err == nil || !strings.Contains(err.Error(), "post.Nothing") {
		t.Errorf("emit of an unknown type: %v", err)
	}
}

// parcelMoved is an event as a typed Go value.
type parcelMoved struct {
	ParcelID string    `avro:"parcel_id"`
	Depot    string    `avro:"depot"`
	MovedAt  time.Time `avro:"moved_at"`
}

func (parcelMoved) EventType() string { return "post.ParcelMoved" }

// checkReadOnly asks the warehouse for what it must not do.
func (s *site) checkReadOnly() {
	for _, statement := range []string{
		"drop table silver.parcel", "delete from silver.parcel", "update silver.parcel set city = ''", "insert into silver.parcel select * from silver.parcel",
		"create table t as select 1", "copy silver.parcel to 'out.csv'", "attach 'other.db'", "install httpfs", "set memory_limit = '1GB'",
		"select * from read_csv('/etc/passwd')", "select * from '/etc/passwd'", "select * from read_text('millrace.yaml')", "select * from glob('/*')",
		"select getenv('DATABASE_URL')", "select 1; drop table silver.parcel", "pragma database_list", "export database 'x'", "call pragma_version()",
	} {
		said := s.fails(1, "sql", statement)
		if !strings.HasPrefix(said, "millrace: ") || strings.Contains(said, "root:") {
			s.t.Errorf("%s\n%s", statement, said)
		}
	}
	if files, err := filepath.Glob(filepath.Join(s.dir, "*")); err != nil || len(files) != 4 {
		s.t.Errorf("the folder holds %q, %v", files, err)
	}
	if got := s.sql("select count(*) from silver.parcel"); !slices.Equal(got, []string{"2"}) {
		s.t.Errorf("after all that: %q", got)
	}
	said := s.fails(1, "sql", "select nope from silver.parcel")
	if !strings.Contains(said, "nope") || !strings.Contains(said, "^") {
		s.t.Errorf("a mistake is shown where it stands:\n%s", said)
	}
	if said := s.fails(1, "sql", "select count(*) from range(1e9::bigint) a, range(1e9::bigint) b where a.range * 7 = b.range * 11", "--timeout", "300ms"); !strings.Contains(said, "took too long") {
		s.t.Errorf("a question without end: %s", said)
	}
}

// checkJSON runs every command that prints a table with -o json.
func (s *site) checkJSON(up *harness.Process) {
	for _, args := range [][]string{
		{"migrate", "status"}, {"schema", "list"}, {"status"}, {"parked", "list"}, {"sql", "select 1 as n"}, {"search", "parcel"},
		{"config", "print"}, {"version"}, {"export", s.topic("depots"), "--to", "depots.avro"},
	} {
		v := asJSON[any](s, args...)
		if v == nil {
			s.t.Errorf("millrace %s -o json: null", strings.Join(args, " "))
		}
	}
	if !up.Running() {
		s.t.Fatal("up has ended")
	}
}

// checkServer looks at what a probe and a scraper see.
func (s *site) checkServer() {
	for path, want := range map[string]string{
		"/livez": "ok", "/readyz": "relay " + s.name + ": ok", "/v1/status": `"relay ` + s.name + `"`,
		"/metrics": "millrace_relay_",
	} {
		resp, err := http.Get("http://" + s.listen + path)
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			s.t.Errorf("%s: %s, want %q in\n%.400s", path, resp.Status, want, text)
		}
	}
}

// A page that was filled before an event is gone once the event is applied.
func TestACachedPageIsGoneAfterItsEvent(t *testing.T) {
	t.Parallel()
	s, _, db := realSite(t)
	s.setUp()
	sink := s.start("sink", s.name+"-cache", "--listen", "127.0.0.1:0")
	relay := s.start("relay", "--listen", "127.0.0.1:0")
	conn := db.Conn(t)
	emit(t, conn, "post.ParcelAccepted", accepted("p1", "Bremen"))
	s.waitStatus("the first event is applied", func(v statusView) bool {
		return v.Outboxes[0].Seq == 1 && v.Sinks[0].Kind == "redis" && v.Sinks[0].Lag == 0
	})
	c, err := client.New(client.Config{URL: s.redis})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	page := func(text string) (string, bool) {
		v, hit, err := c.Fetch(t.Context(), "parcel:p1", time.Hour, func(context.Context) ([]byte, error) { return []byte(text), nil })
		if err != nil {
			t.Fatal(err)
		}
		return string(v), hit
	}
	eventually(t, "the page is kept", func() bool { v, hit := page("accepted"); return hit && v == "accepted" })
	emit(t, conn, "post.ParcelMoved", moved("p1", "d1"))
	eventually(t, "the page is gone", func() bool { v, _ := page("moving"); return v == "moving" })
	for _, p := range []*harness.Process{sink, relay} {
		if code := p.Stop(t, 30*time.Second); code != 0 {
			t.Errorf("ended with %d:\n%s", code, p.Output())
		}
	}
}

// A second relay stands by, and takes over when the first is gone.
func TestAStandbyTakesOver(t *testing.T) {
	t.Parallel()
	s, broker, db := realSite(t)
	s.setUp()
	conn := db.Conn(t)
	first := s.start("relay", "--listen", "127.0.0.1:0")
	first.WaitLine(t, "relay publishes", patience)
	second := s.start("relay", "--listen", "127.0.0.1:0")
	second.WaitLine(t, "msg=\"relay started\"", patience)
	emit(t, conn, "post.ParcelAccepted", accepted("p1", "Bremen"))
	readCommitted(t, broker, s.topic("parcels"), 1)
	first.Kill(t)
	emit(t, conn, "post.ParcelMoved", moved("p1", "d1"))
	second.WaitLine(t, "relay publishes", patience)
	readCommitted(t, broker, s.topic("parcels"), 2)
}
