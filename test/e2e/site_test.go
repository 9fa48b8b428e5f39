package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// patience is how long anything may take that is waited for, on a machine with much else to do.
const patience = 90 * time.Second

// site is a folder with a configuration, and the binary in it.
type site struct {
	t   *testing.T
	dir string
	// name is the outbox's, and stands before topics and sinks: servers are shared with other tests.
	name string
	env  []string
	// listen is where `up` serves, redis the URL of the cache.
	listen, redis string
	// binary is the program; empty: the one that was built from this tree.
	binary string
}

// newSite writes a person's folder. Names on shared servers are made unique: "post." becomes name + ".".
func newSite(t *testing.T, servers map[string]string) *site {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: t.TempDir(), name: harness.Unique("post"), redis: servers["REDIS"], listen: fmt.Sprintf("127.0.0.1:%d", port)}
	s.env = append(s.env, "LISTEN="+s.listen, "MILLRACE_CONFIG=")
	for name, value := range servers {
		s.env = append(s.env, name+"="+value)
	}
	s.copy("testdata/post", "")
	return s
}

// realSite is a site on the shared servers, with its tables made and its schemas pushed.
func realSite(t *testing.T) (*site, *harness.KafkaBroker, *harness.PostgresDB) {
	t.Helper()
	broker, registry, db := harness.Kafka(t), harness.Registry(t), harness.Postgres(t)
	s := newSite(t, map[string]string{
		"KAFKA": broker.Brokers[0], "REGISTRY": registry, "DATABASE_URL": db.DSN, "REDIS": harness.Redis(t).URL,
	})
	s.deleteTopics(broker)
	return s, broker, db
}

func (s *site) deleteTopics(broker *harness.KafkaBroker) {
	topics := []string{s.topic("parcels"), s.topic("depots"), "__millrace." + s.name + ".cursor", "__millrace." + s.name + ".parked"}
	for _, sink := range []string{"warehouse", "search", "cache"} {
		topics = append(topics, "__millrace."+s.name+"-"+sink+".dead-letter", "__millrace."+s.name+"-"+sink+".control")
	}
	broker.DeleteAtEnd(s.t, topics...)
}

func (s *site) topic(name string) string { return s.name + "." + name }

// copy copies a folder of testdata into the site; below is the folder in the site.
func (s *site) copy(from, below string) {
	s.t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		s.write(filepath.Join(below, rel), s.own(string(text)))
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// own gives the names of testdata the site's name.
func (s *site) own(text string) string {
	for _, topic := range []string{"parcels", "depots"} {
		text = strings.ReplaceAll(text, "post."+topic, s.topic(topic))
	}
	text = strings.ReplaceAll(text, "  post:\n", "  "+s.name+":\n")
	for _, sink := range []string{"warehouse", "search", "cache"} {
		text = strings.ReplaceAll(text, "  "+sink+":", "  "+s.name+"-"+sink+":")
	}
	return text
}

func (s *site) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// edit replaces text in a file of the site; it must be there.
func (s *site) edit(name, old, text string) {
	s.t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(raw), old) {
		s.t.Fatalf("%s has no %q:\n%s", name, old, raw)
	}
	s.write(name, strings.Replace(string(raw), old, text, 1))
}

// start starts a command that goes on until it is stopped.
func (s *site) start(args ...string) *harness.Process {
	s.t.Helper()
	name := "millrace"
	if len(args) > 0 {
		name += " " + args[0]
	}
	binary := s.binary
	if binary == "" {
		binary = harness.Binary(s.t)
	}
	return harness.Start(s.t, harness.Command{Path: binary, Args: args, Dir: s.dir, Env: s.env, Name: name})
}

// result is how a command ended and what it printed.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command to its end.
func (s *site) run(args ...string) result {
	s.t.Helper()
	p := s.start(args...)
	code := p.Wait(s.t, patience)
	out := p.Stdout()
	return result{code, out, strings.Replace(p.Output(), out, "", 1)}
}

// ok runs a command that must succeed, and returns its standard output.
func (s *site) ok(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != 0 {
		s.t.Fatalf("millrace %s: status %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// fails runs a command that must end with the given status, and returns what it said on standard error.
func (s *site) fails(code int, args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != code {
		s.t.Fatalf("millrace %s: status %d and not %d\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	return r.stderr
}

// asJSON runs a command with -o json and decodes what it prints. It may fail: status shows what it could see.
func asJSON[T any](s *site, args ...string) T {
	s.t.Helper()
	r := s.run(append(args, "-o", "json")...)
	var v T
	dec := json.NewDecoder(strings.NewReader(r.stdout))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		s.t.Fatalf("millrace %s -o json: %v in %q\n%s", strings.Join(args, " "), err, r.stdout, r.stderr)
	}
	return v
}

// setUp makes the tables and pushes the schemas.
func (s *site) setUp() {
	s.t.Helper()
	s.ok("migrate", "up")
	s.ok("schema", "push")
}

// statusView is what the tests look at of `status -o json`.
type statusView struct {
	Outboxes []struct {
		Name                string
		Seq, Behind, Parked int64
		Error               string
	}
	Sinks []struct {
		Name, Kind, State, Error string
		Lag                      int64
		Members                  int
		DeadLetters              int64 `json:"dead_letters"`
	}
}

// waitStatus asks for the status until it is as wanted.
func (s *site) waitStatus(what string, as func(statusView) bool) statusView {
	s.t.Helper()
	var v statusView
	eventually(s.t, what, func() bool {
		v = asJSON[statusView](s, "status")
		return as(v)
	})
	return v
}

// caughtUp says that so many events are published and every sink has applied them.
func caughtUp(published int64) func(statusView) bool {
	return func(v statusView) bool {
		if len(v.Outboxes) != 1 || v.Outboxes[0].Seq != published || v.Outboxes[0].Behind != 0 {
			return false
		}
		for _, k := range v.Sinks {
			if k.Lag != 0 || k.Error != "" || k.Members == 0 {
				return false
			}
		}
		return len(v.Sinks) > 0
	}
}

// sql asks the warehouse and returns the rows as text.
func (s *site) sql(query string) []string {
	s.t.Helper()
	a := asJSON[struct{ Rows [][]any }](s, "sql", query)
	rows := make([]string, len(a.Rows))
	for i, r := range a.Rows {
		parts := make([]string, len(r))
		for c, v := range r {
			parts[c] = fmt.Sprint(v)
		}
		rows[i] = strings.Join(parts, " ")
	}
	return rows
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}

// emit writes an event as a program in another language would.
func emit(t *testing.T, conn *pgx.Conn, kind, body string) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), "select outbox.emit($1, null, $2)", kind, body); err != nil {
		t.Fatalf("emit %s %s: %v", kind, body, err)
	}
}

func accepted(id, city string) string {
	return fmt.Sprintf(`{"parcel_id":%q,"to":{"street":"Hafen 1","city":%q},"weight_g":1200,"postage":"5.99","size":"SMALL","accepted_at":"2026-03-01T10:00:00.123456Z"}`, id, city)
}

func moved(id, depot string) string {
	return fmt.Sprintf(`{"parcel_id":%q,"depot":%q,"moved_at":"2026-03-01T12:00:00Z"}`, id, depot)
}

func delivered(id, to string) string {
	return fmt.Sprintf(`{"parcel_id":%q,"handed_to":%q,"place":{"street":"Hafen 1","city":"Bremen"},"delivered_at":"2026-03-02T09:30:00Z"}`, id, to)
}

// ready is the status of /readyz; 0 if nothing answers.
func (s *site) ready() int {
	resp, err := http.Get("http://" + s.listen + "/readyz")
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// readyText is what /readyz says; empty if nothing answers.
func (s *site) readyText() string {
	resp, err := http.Get("http://" + s.listen + "/readyz")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// waitReady waits until a role is ready, or is not.
func (s *site) waitReady(role string, want bool) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%s is ready: %v", role, want), func() bool {
		resp, err := http.Get("http://" + s.listen + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			s.t.Fatal(err)
		}
		return strings.Contains(string(text), role+": ok\n") == want && strings.Contains(string(text), role+": ")
	})
}
