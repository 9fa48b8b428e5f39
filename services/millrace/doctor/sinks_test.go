package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/services/sink"
	"github.com/millrace/millrace/test/harness"
)

func lookAtSink(t *testing.T, cfg sink.Config) Report {
	t.Helper()
	cfg.Name = "s"
	r := Report{Site{Explain: func(err error) error { return err }}.store(t.Context(), cfg)}
	for _, f := range r.Findings {
		if f.System != "sink" || f.Sink != "s" || strings.Contains(f.What+f.Why+f.Mend, "s3cret") {
			t.Errorf("%+v", f)
		}
	}
	return r
}

func TestAWarehouseOnPostgres(t *testing.T) {
	t.Parallel()
	db := harness.Postgres(t)
	cfg := sink.Config{Kind: "postgres", URL: db.DSN}
	r := lookAtSink(t, cfg)
	r.nothing(t)
	r.wants(t, "version", OK, "PostgreSQL", "")
	r.wants(t, "rights", OK, "has the rights", "")
	r.wants(t, "own database", OK, "no application's outbox", "")

	cfg.Connections = 900
	lookAtSink(t, cfg).wants(t, "connections", Warning, "the sink may use 900", "sinks.s.connections")
	cfg.Connections = 0
	conn := db.Conn(t)
	if _, err := migrate.Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	lookAtSink(t, cfg).wants(t, "own database", Warning, "outbox", "CREATE DATABASE")

	// A role that may only log in.
	role := strings.ReplaceAll(harness.Unique("warehouse"), "-", "_")
	for _, s := range []string{"CREATE ROLE " + role + " LOGIN PASSWORD 's3cret'", "REVOKE CREATE ON DATABASE " + conn.Config().Database + " FROM PUBLIC"} {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = conn.Exec(context.Background(), "DROP ROLE IF EXISTS "+role) })
	u, err := url.Parse(db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "s3cret")
	lookAtSink(t, sink.Config{Kind: "postgres", URL: u.String()}).wants(t, "rights", Error, "may not make them", "GRANT CREATE ON DATABASE")
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA silver"); err != nil {
		t.Fatal(err)
	}
	lookAtSink(t, sink.Config{Kind: "postgres", URL: u.String()}).wants(t, "rights", Error, "does not own the schemas silver", "ALTER SCHEMA silver OWNER TO")
	lookAtSink(t, sink.Config{Kind: "postgres", URL: u.String(), Schema: "mine"}).wants(t, "rights", Error, "mine_silver", "GRANT CREATE")
	// One that has its schemas and may make no others: it works, and cannot be rebuilt.
	for _, name := range []string{"bronze", "bronze_base", "silver", "silver_base", "millrace"} {
		if _, err := conn.Exec(t.Context(), "CREATE SCHEMA theirs_"+name+" AUTHORIZATION "+role); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = conn.Exec(context.Background(), "DROP OWNED BY "+role) })
	theirs := sink.Config{Kind: "postgres", URL: u.String(), Schema: "theirs"}
	r = lookAtSink(t, theirs)
	r.wants(t, "rights", OK, "has the rights", "")
	r.wants(t, "rebuild", Warning, "may not make schemas", "GRANT CREATE ON DATABASE "+conn.Config().Database+" TO "+role)
	if _, err := conn.Exec(t.Context(), "GRANT CREATE ON DATABASE "+conn.Config().Database+" TO "+role); err != nil {
		t.Fatal(err)
	}
	lookAtSink(t, theirs).wants(t, "rebuild", OK, "another generation can be built", "")
	if _, err := conn.Exec(t.Context(), "ALTER ROLE "+role+" SET default_transaction_read_only = on"); err != nil {
		t.Fatal(err)
	}
	lookAtSink(t, sink.Config{Kind: "postgres", URL: u.String()}).wants(t, "primary", Warning, "default_transaction_read_only", "ALTER")

	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	lookAtSink(t, sink.Config{Kind: "postgres", URL: fmt.Sprintf("postgres://me:s3cret@127.0.0.1:%d/x", port)}).wants(t, "reachable", Error, "", "millrace doctor")
}

func TestASearchServer(t *testing.T) {
	t.Parallel()
	server, prefix := harness.OpenSearch(t), harness.Unique("doctor")
	put := func(method, path, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), method, server+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	index := prefix + "-parcel-g1"
	put(http.MethodPut, "/"+index, `{"settings":{"number_of_replicas":0}}`)
	t.Cleanup(func() { put(http.MethodDelete, "/"+index, "") })
	cfg := sink.Config{Kind: "opensearch", URL: server, IndexPrefix: prefix}
	r := lookAtSink(t, cfg)
	r.wants(t, "version", OK, "opensearch 2", "")
	r.wants(t, "blocks", OK, "nothing keeps writers out", "")
	r.wants(t, "settings", OK, "1 indices", "")
	r.finding(t, "disk", "")
	put(http.MethodPut, "/"+index+"/_settings", `{"index.blocks.read_only_allow_delete":true,"index.translog.durability":"async","index.refresh_interval":"-1"}`)
	r = lookAtSink(t, cfg)
	r.wants(t, "blocks", Error, index+": index.blocks.read_only_allow_delete is true", "/"+index+"/_settings")
	r.wants(t, "settings", Warning, "async", "request")
	r.wants(t, "settings", Note, "refresh_interval", "1s")
}

// What cannot be done to a server that others use.
func TestASearchServerInTrouble(t *testing.T) {
	t.Parallel()
	available := 12
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch {
		case r.URL.Path == "/":
			fmt.Fprint(w, `{"version":{"number":"8.1.0"}}`)
		case r.URL.Path == "/_cluster/health":
			fmt.Fprint(w, `{"status":"red","number_of_nodes":3}`)
		case r.URL.Path == "/_cluster/settings":
			fmt.Fprint(w, `{"persistent":{"cluster.blocks.read_only":"true","cluster.routing.allocation.disk.watermark.high":"85%"},"transient":{},"defaults":{"cluster.routing.allocation.disk.watermark.flood_stage":"97%"}}`)
		case r.URL.Path == "/_nodes/stats/fs":
			fmt.Fprintf(w, `{"nodes":{"x":{"name":"n1","fs":{"total":{"total_in_bytes":100,"available_in_bytes":%d}}}}}`, available)
		default:
			fmt.Fprint(w, `{}`)
		}
	}))
	t.Cleanup(server.Close)
	cfg := sink.Config{Kind: "opensearch", URL: server.URL, Username: "me", Password: "s3cret"}
	r := lookAtSink(t, cfg)
	r.wants(t, "version", Note, "not OpenSearch", "")
	r.wants(t, "health", Error, "red", "allocation/explain")
	r.wants(t, "blocks", Error, "cluster.blocks.read_only is true", `{"persistent":{"cluster.blocks.read_only":null}}`)
	r.wants(t, "disk", Warning, "88 % full", "make room")
	available = 2
	lookAtSink(t, cfg).wants(t, "disk", Error, "98 % full", "make room")
	cfg.Password = "wrong"
	lookAtSink(t, cfg).wants(t, "reachable", Error, "401", "millrace doctor")
	cfg.URL = strings.Replace(server.URL, "://", "://me:s3cret@", 1) + "0" // no such port
	lookAtSink(t, cfg).wants(t, "reachable", Error, "", "millrace doctor")
}

func TestTheFolderOfAStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, kind := range []string{"duckdb", "bleve"} {
		r := lookAtSink(t, sink.Config{Kind: kind, Path: filepath.Join(dir, "not", "yet", "there")})
		r.wants(t, "folder", OK, dir, "")
		r.finding(t, "space", dir)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	lookAtSink(t, sink.Config{Kind: "duckdb", Path: filepath.Join(file, "warehouse.duckdb")}).wants(t, "folder", Error, "is no folder", "sinks.s.path")
	if os.Getuid() != 0 { // root may write everywhere
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		lookAtSink(t, sink.Config{Kind: "duckdb", Path: filepath.Join(dir, "warehouse.duckdb")}).wants(t, "folder", Error, "cannot be written to", "chown")
	}
}

func TestDeadLettersThatWait(t *testing.T) {
	t.Parallel()
	broker, name := harness.Kafka(t), harness.Unique("doctor")
	broker.DeleteAtEnd(t, consumers.DeadLetterTopic(name))
	kafka := []kgo.Opt{kgo.SeedBrokers(broker.Brokers...)}
	site, cfg := Site{Kafka: kafka}, sink.Config{Name: name, Kind: "redis"}
	Report{site.deadLetters(t.Context(), cfg)}.wants(t, "dead letters", OK, "no event waits", "")
	letters, err := consumers.NewDeadLetterProducer(name, kafka...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := letters.Close(); err != nil {
			t.Error(err)
		}
	}()
	event := consumers.Event{TopicPartition: consumers.TopicPartition{Topic: "orders"}, Offset: 7, Key: "o-1"}
	if err := letters.Send(t.Context(), []consumers.DeadLetter{{Event: event, Class: consumers.LetterPoison, Reason: "a bad one", First: 7}}); err != nil {
		t.Fatal(err)
	}
	Report{site.deadLetters(t.Context(), cfg)}.wants(t, "dead letters", Warning, "1 events wait, of 1 keys; the first is of orders: a bad one", "millrace dlq list --keys --sink "+name)
}
