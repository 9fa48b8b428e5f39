package rebuild

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

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

// kinds are the backends.
var kinds = []string{"postgres", "duckdb", "bleve", "opensearch", "redis"}

// embedded says that a store belongs to one process, which readers ask.
func embedded(kind string) bool { return kind == "duckdb" || kind == "bleve" }

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
	}
	return ""
}

// storeConfig is the sink's part of millrace.yaml.
func storeConfig(r *rig) string {
	switch r.kind {
	case "postgres":
		return fmt.Sprintf("kind: postgres, url: %q, topics: [%s]", r.url, r.topic)
	case "opensearch":
		return fmt.Sprintf("kind: opensearch, url: %q, index_prefix: %s, refresh_interval: 200ms, entities: [account]", r.url, r.name)
	case "redis":
		return fmt.Sprintf("kind: redis, url: %q, prefix: %q, entities: [account]", r.url, r.name+":")
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

// open opens a generation of the store as another process would.
func (r *rig) open(generation int) fold.Sink {
	r.t.Helper()
	var s fold.Sink
	var err error
	quiet := slog.New(slog.DiscardHandler)
	switch p := r.projections(); r.kind {
	case "postgres":
		s, err = postgres.Open(postgres.Config{URL: r.url, Generation: generation, Projections: p})
	case "opensearch":
		s, err = opensearch.Open(opensearch.Config{URL: r.url, Prefix: r.name, Generation: generation, Projections: p, Logger: quiet})
	case "redis":
		s, err = redis.Open(redis.Config{URL: r.url, Prefix: r.name + ":", Generation: generation, Projections: p, Logger: quiet})
	case "duckdb":
		s, err = duckdb.Open(duckdb.Config{Path: filepath.Join(r.dir, "data/warehouse.duckdb"), Generation: generation, Projections: p})
	case "bleve":
		s, err = bleve.Open(bleve.Config{Path: filepath.Join(r.dir, "data/search"), Generation: generation, Projections: p, Logger: quiet})
	}
	if err != nil {
		r.t.Fatalf("open generation %d of the store: %v", generation, err)
	}
	return s
}

// holds compares a generation of the stopped sink with the truth; fee is how many times the amount the column fee is.
//
// Promise 4: each event has its effect once, in the order of its key.
func (r *rig) holds(generation int, fee int64) {
	r.t.Helper()
	s, ctx := r.open(generation), context.Background()
	defer func() {
		if err := s.Close(); err != nil {
			r.t.Errorf("close the store: %v", err)
		}
	}()
	truth := r.now()
	var keys []string
	for key := range truth {
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
	for key, want := range truth {
		st := states[key]
		if !st.Exists {
			r.t.Errorf("generation %d does not have %q", generation, key)
			continue
		}
		number := func(name string) int64 { n, _ := st.Values[column[name]].(int64); return n }
		memo, _ := st.Values[column["memo"]].(string)
		if got := (account{number("n"), number("sum"), number("seq"), want.amount, memo}); got != want || number("fee") != fee*want.amount {
			r.t.Errorf("generation %d: %q is %+v with the fee %d, want %+v with %d", generation, key, got, number("fee"), want, fee*want.amount)
		}
	}
	positions, err := s.Positions(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	ends, err := r.adm.ListEndOffsets(ctx, r.topic)
	if err != nil {
		r.t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if at := positions[consumers.TopicPartition{Topic: o.Topic, Partition: o.Partition}]; at != o.Offset {
			r.t.Errorf("generation %d: the position of partition %d is %d, the topic's end %d", generation, o.Partition, at, o.Offset)
		}
	})
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
