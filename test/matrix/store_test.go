package matrix

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/cache/redis"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search/bleve"
	"github.com/millrace/millrace/consumers/search/opensearch"
	"github.com/millrace/millrace/consumers/warehouse/duckdb"
	"github.com/millrace/millrace/consumers/warehouse/postgres"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/test/harness"
)

// kinds are all backends; the first runs every case every time.
var kinds = []string{"postgres", "opensearch", "redis", "duckdb", "bleve", "webhook"}

// onServer says that a store is a server, which several processes can use and which a wire leads to.
func onServer(kind string) bool { return kind != "duckdb" && kind != "bleve" }

// storeURL is where a rig's store is, with a place of its own in it; "" for a file.
func storeURL(t *testing.T, r *rig) string {
	switch r.kind {
	case "postgres":
		return harness.Postgres(t).DSN
	case "opensearch":
		server := harness.OpenSearch(t)
		t.Cleanup(func() { deleteIndices(t, server, r.name) })
		return server
	case "redis":
		return harness.Redis(t).URL
	case "webhook":
		r.receiver = newReceiver(t)
		return r.receiver.url
	}
	return ""
}

// storeConfig is the sink's part of millrace.yaml.
func storeConfig(r *rig, url string) string {
	switch r.kind {
	case "postgres":
		return fmt.Sprintf("kind: postgres, url: %q, topics: [%s]", url, r.topic)
	case "opensearch":
		return fmt.Sprintf("kind: opensearch, url: %q, index_prefix: %s, entities: [account]", url, r.name)
	case "redis":
		return fmt.Sprintf("kind: redis, url: %q, prefix: %q, entities: [account]", url, r.name+":")
	case "webhook":
		return fmt.Sprintf("kind: webhook, url: %q, secret: %q, topics: [%s]", url, hookSecret, r.topic)
	case "duckdb":
		return fmt.Sprintf("kind: duckdb, path: data/warehouse.duckdb, topics: [%s]", r.topic)
	}
	return "kind: bleve, path: data/search, entities: [account]"
}

func (r *rig) projections() []fold.Projection {
	r.t.Helper()
	catalogue, err := schemas.LoadDir(filepath.Join(r.dir, "schemas"))
	if err != nil {
		r.t.Fatal(err)
	}
	all, err := projection.Load(catalogue, filepath.Join(r.dir, "projections", "*.yaml"))
	if err != nil {
		r.t.Fatal(err)
	}
	return []fold.Projection{all[0]}
}

// open opens the store as another process would, not through the wire.
func (r *rig) open() fold.Sink {
	r.t.Helper()
	var s fold.Sink
	var err error
	quiet := slog.New(slog.DiscardHandler)
	switch p := r.projections(); r.kind {
	case "postgres":
		s, err = postgres.Open(postgres.Config{URL: r.url, Generation: r.generation, Projections: p})
	case "opensearch":
		s, err = opensearch.Open(opensearch.Config{URL: r.url, Generation: r.generation, Prefix: r.name, Projections: p, Logger: quiet})
	case "redis":
		s, err = redis.Open(redis.Config{URL: r.url, Generation: r.generation, Prefix: r.name + ":", Projections: p, Logger: quiet})
	case "duckdb":
		s, err = duckdb.Open(duckdb.Config{Path: filepath.Join(r.dir, "data/warehouse.duckdb"), Generation: r.generation, Projections: p})
	case "bleve":
		s, err = bleve.Open(bleve.Config{Path: filepath.Join(r.dir, "data/search"), Generation: r.generation, Projections: p, Logger: quiet})
	}
	if err != nil {
		r.t.Fatalf("open the store: %v", err)
	}
	return s
}

// stored returns what the store holds of the keys of the truth, and its positions.
func (r *rig) stored() (map[string]account, map[consumers.TopicPartition]int64) {
	r.t.Helper()
	if r.receiver != nil {
		return r.receiver.stored(r)
	}
	s, ctx := r.open(), context.Background()
	defer func() {
		if err := s.Close(); err != nil {
			r.t.Errorf("close the store: %v", err)
		}
	}()
	var keys []string
	for key := range r.truth {
		keys = append(keys, key)
	}
	states, err := s.Load(ctx, "account", keys)
	if err != nil {
		r.t.Fatal(err)
	}
	column := map[string]int{}
	for i, c := range r.projections()[0].Columns() {
		column[c.Name] = i
	}
	out := map[string]account{}
	for key, st := range states {
		if st.Exists {
			v := st.Values
			out[key] = account{v[column["n"]].(int64), v[column["sum"]].(int64), v[column["seq"]].(int64), v[column["memo"]].(string)}
		}
	}
	positions, err := s.Positions(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return out, positions
}

// bronze counts the events that a warehouse keeps; ok is false for what is none.
func (r *rig) bronze() (events, distinct int, ok bool) {
	r.t.Helper()
	const query = `SELECT count(*), count(DISTINCT (partition, "offset")) FROM bronze.events`
	switch r.kind {
	case "postgres":
		conn, err := pgx.Connect(r.t.Context(), r.url)
		if err != nil {
			r.t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.Background()) }()
		if err := conn.QueryRow(r.t.Context(), query).Scan(&events, &distinct); err != nil {
			r.t.Fatal(err)
		}
		return events, distinct, true
	}
	return 0, 0, false
}

func deleteIndices(t *testing.T, server, prefix string) {
	for _, path := range []string{"/" + prefix + "*?expand_wildcards=all", "/_index_template/" + prefix + "*"} {
		req, err := http.NewRequest(http.MethodDelete, server+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Logf("clean up: %v", err)
			return
		}
		resp.Body.Close()
	}
}
