package sink

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/services/internal/conf"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string // the error; "" for none
	}{
		{Config{Name: "a", Kind: "duckdb", Path: "w.duckdb", Topics: []string{"t"}}, ""},
		{Config{Name: "a", Kind: "duckdb", Path: "w.duckdb", Entities: []string{"order"}, Bronze: "off"}, ""},
		{Config{Name: "a", Kind: "duckdb", Path: "w.duckdb", Bronze: "all"}, `bronze: "all" is none of json, payload, off`},
		{Config{Name: "a", Kind: "bleve", Path: "s", Bronze: "off"}, "bronze: is for warehouses"},
		{Config{Name: "a", Kind: "bleve", Path: "s", Entities: []string{"order"}, BatchEvents: 1, SessionTimeout: time.Second}, ""},
		{Config{Name: "a", Kind: "redis", URL: "redis://h:1/2", Prefix: "p:"}, ""},
		{Config{Name: "a", Kind: "opensearch", URL: "https://h:9200", IndexPrefix: "shop", Password: "x", RefreshInterval: -1}, ""},
		{Config{Name: "a", Kind: "opensearch", URL: "h:9200"}, "url: the URL is not understood"},
		{Config{Name: "a", Kind: "opensearch", URL: "https://me:s3cret@h:port"}, "url: the URL is not understood"},
		{Config{Name: "a", Kind: "opensearch", URL: "https://h", IndexPrefix: "Shop"}, `index_prefix: "Shop" is not`},
		{Config{Name: "a", Kind: "opensearch", URL: "https://h", Topics: []string{"t"}}, "topics: are for sinks that keep events"},
		{Config{Name: "a", Kind: "bleve", Path: "s", IndexPrefix: "shop"}, "index_prefix: is for opensearch"},
		{Config{Name: "a", Kind: "redis", URL: "redis://h", TLS: conf.TLS{CA: "x"}}, "tls: is for opensearch"},
		{Config{Kind: "bleve", Path: "s"}, `name: "" is not 1 to 100 characters`},
		{Config{Name: "-a", Kind: "bleve", Path: "s"}, `name: "-a" is not`},
		{Config{Name: "a/../b", Kind: "bleve", Path: "s"}, `name: "a/../b" is not`},
		{Config{Name: strings.Repeat("a", 101), Kind: "bleve", Path: "s"}, "name: "},
		{Config{Name: "a"}, "kind: is missing: one of bleve, duckdb, opensearch, postgres, redis"},
		{Config{Name: "a", Kind: "Bleve"}, `kind: "Bleve" is none of bleve, duckdb, opensearch, postgres, redis`},
		{Config{Name: "a", Kind: "duckdb"}, "path: is missing: where duckdb keeps its data"},
		{Config{Name: "a", Kind: "redis"}, "url: is missing: how redis is reached"},
		{Config{Name: "a", Kind: "postgres", URL: "postgres://me:s3cret@h/x", Topics: []string{"t"}, Schema: "shop", Bronze: "payload", Connections: 3}, ""},
		{Config{Name: "a", Kind: "postgres"}, "url: is missing: how postgres is reached"},
		{Config{Name: "a", Kind: "postgres", URL: "postgres://me:s3cret@h:port/x"}, "url: the connection string is not understood"},
		{Config{Name: "a", Kind: "postgres", URL: "h/x?password=s3cret"}, "url: the connection string is not understood"},
		{Config{Name: "a", Kind: "postgres", URL: "postgres://h/x", Path: "p"}, "path: is not for postgres, which is reached by its url"},
		{Config{Name: "a", Kind: "postgres", URL: "postgres://h/x", Schema: "Shop"}, `schema: "Shop" is not 1 to 40 characters`},
		{Config{Name: "a", Kind: "postgres", URL: "postgres://h/x", Schema: "pg_shop"}, `schema: "pg_shop" is not`},
		{Config{Name: "a", Kind: "postgres", URL: "postgres://h/x", Bronze: "all"}, `bronze: "all" is none of json, payload, off`},
		{Config{Name: "a", Kind: "postgres", URL: "postgres://h/x", Connections: -1}, "connections: -1 is outside 1..1000"},
		{Config{Name: "a", Kind: "duckdb", Path: "w", Schema: "x"}, "schema: is for postgres"},
		{Config{Name: "a", Kind: "redis", URL: "redis://h", Password: "s3cret"}, "password: is for opensearch and postgres"},
		{Config{Name: "a", Kind: "webhook", URL: "https://h/x", Secret: hookSecret, Topics: []string{"t"}, Types: []string{"T"}, Headers: map[string]string{"A": "b"}}, ""},
		{Config{Name: "a", Kind: "webhook", URL: "https://h/x", Secret: hookSecret, Entities: []string{"order"}, Concurrency: 4, Timeout: 1}, ""},
		{Config{Name: "a", Kind: "webhook", URL: "https://h/x", Secret: hookSecret}, "topics: is missing"},
		{Config{Name: "a", Kind: "webhook", URL: "https://h/x", Topics: []string{"t"}}, "secret: a secret is whsec_"},
		{Config{Name: "a", Kind: "webhook", URL: "https://h/x", Secret: "s3cret", Topics: []string{"t"}}, "secret: a secret is whsec_"},
		{Config{Name: "a", Kind: "webhook", URL: "https://u:s3cret@h/x", Secret: hookSecret, Topics: []string{"t"}}, "url: the URL holds a user"},
		{Config{Name: "a", Kind: "webhook", Secret: hookSecret, Topics: []string{"t"}}, "url: is missing"},
		{Config{Name: "a", Kind: "webhook", URL: "https://h", Secret: hookSecret, Topics: []string{"t"}, Headers: map[string]string{"webhook-id": "s3cret"}}, "headers: webhook-id is set"},
		{Config{Name: "a", Kind: "webhook", URL: "https://h", Secret: hookSecret, Topics: []string{"t"}, Start: "latest"}, ""},
		{Config{Name: "a", Kind: "webhook", URL: "https://h", Secret: hookSecret, Topics: []string{"t"}, Start: "2026-03-01T10:00:00Z"}, ""},
		{Config{Name: "a", Kind: "webhook", URL: "https://h", Secret: hookSecret, Topics: []string{"t"}, Start: "yesterday"}, `start: "yesterday" is none of earliest, latest, a time`},
		{Config{Name: "a", Kind: "bleve", Path: "p", Start: "latest"}, "start: is for webhooks"},
		{Config{Name: "a", Kind: "webhook", URL: "https://h", Secret: hookSecret, Topics: []string{"t"}, Concurrency: 1001}, "concurrency: 1001 is outside"},
		{Config{Name: "a", Kind: "webhook", URL: "https://h", Secret: hookSecret, Topics: []string{"t"}, Timeout: -1}, "timeout: "},
		{Config{Name: "a", Kind: "webhook", URL: "https://h", Secret: hookSecret, Topics: []string{"t"}, StateCache: 1}, "state_cache: is for sinks"},
		{Config{Name: "a", Kind: "bleve", Path: "s", Secret: "s3cret"}, "secret: is for webhooks"},
		{Config{Name: "a", Kind: "bleve", Path: "s", Types: []string{"t"}}, "types: is for webhooks"},
		{Config{Name: "a", Kind: "redis", URL: "redis://h", TLS: conf.TLS{Enabled: true}}, "tls: is for opensearch and webhooks"},
		{Config{Name: "a", Kind: "redis", URL: "redis://h", Purge: Purge{URL: "https://cdn/purge", Headers: map[string]string{"Fastly-Key": "s3cret"}}}, ""},
		{Config{Name: "a", Kind: "redis", URL: "redis://h", Purge: Purge{URL: "https://u:s3cret@cdn"}}, "purge: the URL holds a user"},
		{Config{Name: "a", Kind: "redis", URL: "redis://h", Purge: Purge{BatchKeys: 3}}, "purge: the URL is not understood"},
		{Config{Name: "a", Kind: "bleve", Path: "s", Purge: Purge{URL: "https://cdn"}}, "purge: is for caches"},
		{Config{Name: "a", Kind: "redis", URL: "h:6379"}, "url: the URL is not understood"},
		{Config{Name: "a", Kind: "redis", URL: "redis://:s3cret@h:port"}, "url: the URL is not understood"},
		{Config{Name: "a", Kind: "redis", URL: "redis://h", Path: "x"}, "path: is not for redis"},
		{Config{Name: "a", Kind: "bleve", Path: "s", URL: "http://h"}, "url: is not for bleve"},
		{Config{Name: "a", Kind: "bleve", Path: "s", Prefix: "p:"}, "prefix: is for caches"},
		{Config{Name: "a", Kind: "bleve", Path: "s", Topics: []string{"t"}}, "topics: are for sinks that keep events; a search sink follows the topics of its entities"},
		{Config{Name: "a", Kind: "bleve", Path: "s", BatchEvents: -1}, "batch_events: -1 is outside 1..1000000"},
		{Config{Name: "a", Kind: "bleve", Path: "s", BatchEvents: 1_000_001}, "batch_events: 1000001 is outside"},
		{Config{Name: "a", Kind: "bleve", Path: "s", SessionTimeout: -1}, "session_timeout: "},
	} {
		err := c.cfg.Check()
		if c.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", c.cfg, err)
			}
			continue
		}
		var wrong *ConfigError
		if !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v\n got  %v\n want %s", c.cfg, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("a password is shown: %v", err)
		}
	}
}

// hookSecret is that of Standard Webhooks' examples.
const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// declared are an order and its lines of topic orders, and a customer of topic customers.
func declared(t *testing.T) []*projection.Projection {
	t.Helper()
	schema := func(name, topic string) string {
		return `{"type":"record","name":"` + name + `","millrace.topic":"` + topic + `","fields":[{"name":"a","type":"string"}]}`
	}
	files := fstest.MapFS{
		"Placed.avsc": {Data: []byte(schema("Placed", "orders"))}, "Moved.avsc": {Data: []byte(schema("Moved", "customers"))},
		"order.yaml":    {Data: []byte("entity: order\ntopic: orders\non: {Placed: {set: {a: event.a}}}\n")},
		"line.yaml":     {Data: []byte("entity: line\ntopic: orders\non: {Placed: {set: {a: event.a}}}\n")},
		"customer.yaml": {Data: []byte("entity: customer\ntopic: customers\non: {Moved: {set: {a: event.a}}}\n")},
	}
	catalogue, err := schemas.LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	all, err := projection.LoadFS(files, catalogue, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestResolve(t *testing.T) {
	all := declared(t)
	for _, c := range []struct {
		name   string
		cfg    Config
		all    []*projection.Projection
		keep   string
		topics string
		want   string
	}{
		{"every entity by default", Config{Kind: "bleve"}, all, "customer line order", "customers orders", ""},
		{"the entities named", Config{Kind: "bleve", Entities: []string{"order"}}, all, "order", "orders", ""},
		{"the entities of the topics named", Config{Kind: "duckdb", Topics: []string{"orders"}}, all, "line order", "orders", ""},
		{"a topic that nobody projects is kept as it comes", Config{Kind: "duckdb", Topics: []string{"clicks"}}, all, "", "clicks", ""},
		{"entities and topics together", Config{Kind: "duckdb", Topics: []string{"clicks"}, Entities: []string{"customer"}}, all, "customer", "clicks customers", ""},
		{"a topic named twice is one", Config{Kind: "duckdb", Topics: []string{"orders", "orders"}}, all, "line order", "orders", ""},
		{"an unknown entity", Config{Kind: "bleve", Entities: []string{"order", "ordr"}}, all, "", "", `entities: no projection declares entity "ordr"`},
		{"a webhook folds nothing", Config{Kind: "webhook", Entities: []string{"order"}}, all, "", "orders", ""},
		{"a webhook of an unknown entity", Config{Kind: "webhook", Entities: []string{"ordr"}}, all, "", "", `entities: no projection declares entity "ordr"`},
		{"nothing at all", Config{Kind: "bleve"}, nil, "", "", "entities: there is nothing to follow"},
		{"topics alone, where no events are kept", Config{Kind: "postgres", Topics: []string{"clicks"}, Bronze: "off"}, all, "", "", "entities: there is nothing to follow"},
		{"topics alone, where events are kept", Config{Kind: "postgres", Topics: []string{"clicks"}}, all, "", "clicks", ""},
		{"nothing but topics, without projections", Config{Kind: "duckdb", Topics: []string{"orders"}}, nil, "", "orders", ""},
		{"no topics and no projections", Config{Kind: "duckdb"}, nil, "", "", "entities: there is nothing to follow"},
	} {
		keep, topics, err := c.cfg.Resolve(c.all)
		if c.want != "" {
			var wrong *ConfigError
			if !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var entities []string
		for _, p := range keep {
			entities = append(entities, p.Entity())
		}
		slices.Sort(entities)
		if got := strings.Join(entities, " "); err != nil || got != c.keep || strings.Join(topics, " ") != c.topics {
			t.Errorf("%s: keeps %q of %q, %v", c.name, got, topics, err)
		}
	}
}

// Resolve leaves the configuration as it was: it is asked by several commands.
func TestResolveDoesNotChangeTheConfiguration(t *testing.T) {
	topics := make([]string, 2, 8)
	copy(topics, []string{"z", "a"})
	cfg := Config{Kind: "duckdb", Topics: topics}
	if _, _, err := cfg.Resolve(declared(t)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cfg.Topics, []string{"z", "a"}) {
		t.Errorf("%q", cfg.Topics)
	}
}

func TestNewRefusesWhatCannotRun(t *testing.T) {
	parts := Parts{Logger: slog.New(slog.DiscardHandler), Projections: declared(t)}
	for _, cfg := range []Config{{Name: "a", Kind: "lucene"}, {Name: "a", Kind: "bleve", Path: "x", Entities: []string{"nope"}}} {
		var wrong *ConfigError
		if _, err := New(cfg, parts); !errors.As(err, &wrong) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// A batch of many events is not cut short by the bytes that it may have, and two of them fit where a partition's records wait; on Postgres one does.
func TestLargeBatchesHaveRoom(t *testing.T) {
	for _, c := range []struct {
		cfg            Config
		events, bytes  int
		records, lanes int
	}{
		{Config{Kind: "bleve"}, 0, 0, 0, 0},
		{Config{Kind: "postgres"}, 10_000, 8_000_000, 10_000, 8_000_000},
		{Config{Kind: "postgres", BatchEvents: 5000}, 5000, 0, 0, 0},
		{Config{Kind: "opensearch", BatchEvents: 10_000}, 10_000, 8_000_000, 20_000, 16_000_000},
		{Config{Kind: "duckdb"}, 20_000, 16_000_000, 40_000, 32_000_000},
		{Config{Kind: "duckdb", BatchEvents: 1_000_000}, 1_000_000, 32 << 20, 2_000_000, 64 << 20},
		{Config{Kind: "webhook"}, 500, 0, 0, 0},
	} {
		var got consumers.Config
		c.cfg.bounds(&got)
		if got.BatchEvents != c.events || got.BatchBytes != c.bytes || got.LaneRecords != c.records || got.LaneBytes != c.lanes {
			t.Errorf("%s with %d: %d events, %d bytes, %d records, %d bytes", c.cfg.Kind, c.cfg.BatchEvents, got.BatchEvents, got.BatchBytes, got.LaneRecords, got.LaneBytes)
		}
	}
}

// A type that is spelled wrong would leave out every event, for good and without a word.
func TestATypeThatNobodyDeclaresIsTold(t *testing.T) {
	catalogue, err := schemas.NewCatalogue(&schemas.Schema{Name: "shop.OrderPlaced"})
	if err != nil {
		t.Fatal(err)
	}
	var log lines
	b, err := openWebhook(Config{Name: "a", Kind: "webhook", URL: "https://h", Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Types: []string{"shop.OrderPlaced", "OrderPlaced"}},
		Parts{Catalogue: catalogue, Kafka: []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "type=OrderPlaced") {
		t.Errorf("log: %s", text)
	}
}
