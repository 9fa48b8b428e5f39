package crash

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/outbox/migrate"
	shopschemas "github.com/millrace/millrace/schemas/shop"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// world is one outbox with the shop that writes it, its relays and its sinks.
type world struct {
	t   *testing.T
	rng *rand.Rand
	servers
	name   string // part of every name on servers that other tests use too
	dir    string
	binary string
	pool   *pgxpool.Pool
	shop   *trade
	states *states
	roles  []*role
}

// servers are the parts that are not ours.
type servers struct {
	postgres string // of a database of the test's own
	kafka    *harness.KafkaBroker
	registry string
	redis    string
}

func sharedServers(t *testing.T) servers {
	t.Helper()
	return servers{kafka: harness.Kafka(t), registry: harness.Registry(t), postgres: harness.Postgres(t).DSN, redis: harness.Redis(t).URL}
}

// seed is SEED, or another one each time. It is printed.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SEED: %v", err)
		}
	}
	t.Logf("SEED=%d", s)
	return s
}

// The shop's topics and sinks, without the run's name.
var (
	topicNames = []string{"orders", "customers", "products"}
	sinkNames  = []string{"warehouse", "search", "cache"}
)

const partitions = 4

// newWorld writes the files and prepares the database. No role runs yet.
func newWorld(t *testing.T, s servers) *world {
	t.Helper()
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed(t), 0)), servers: s, name: harness.Unique("crash"), binary: harness.Binary(t)}
	var err error
	if w.dir, err = os.MkdirTemp("", "millrace-crash-"); err != nil {
		t.Fatal(err)
	}
	s.kafka.DeleteAtEnd(t, append(w.topics(), w.internalTopics()...)...)
	t.Cleanup(w.keepOrRemove) // before the topics go
	if err := w.writeFiles(); err != nil {
		t.Fatal(err)
	}
	w.connect()
	if _, err := migrate.Up(t.Context(), w.pool); err != nil {
		t.Fatalf("create the outbox: %v", err)
	}
	w.shop = newTrade(w)
	return w
}

func (w *world) connect() {
	w.t.Helper()
	cfg, err := pgxpool.ParseConfig(w.postgres)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.MaxConns = 16
	if w.pool, err = pgxpool.NewWithConfig(w.t.Context(), cfg); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.pool.Close)
}

func (w *world) topics() []string {
	var out []string
	for _, t := range topicNames {
		out = append(out, w.name+"."+t)
	}
	return out
}

// internalTopics are the product's own.
func (w *world) internalTopics() []string {
	out := []string{"__millrace." + w.name + ".cursor", "__millrace." + w.name + ".parked"}
	for _, s := range sinkNames {
		out = append(out, consumers.DeadLetterTopic(w.sink(s)))
	}
	return out
}

// sink is the full name of a sink.
func (w *world) sink(name string) string { return w.name + "-" + name }

func (w *world) writeFiles() error {
	err := fs.WalkDir(shopschemas.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(shopschemas.FS, path)
		if err != nil {
			return err
		}
		to := filepath.Join(w.dir, path)
		if filepath.Ext(path) == ".avsc" {
			to = filepath.Join(w.dir, "schemas", path)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, []byte(w.renameTopics(string(text))), 0o644)
	})
	if err != nil {
		return fmt.Errorf("copy schemas and projections: %w", err)
	}
	return os.WriteFile(filepath.Join(w.dir, "millrace.yaml"), []byte(w.config()), 0o644)
}

func (w *world) renameTopics(text string) string {
	for _, t := range topicNames {
		text = strings.ReplaceAll(text, `"shop.`+t+`"`, `"`+w.name+"."+t+`"`)
		text = strings.ReplaceAll(text, "topic: shop."+t, "topic: "+w.name+"."+t)
	}
	return text
}

// config is millrace.yaml. Pages and batches differ from run to run: small ones make many transactions to be killed in, large
// ones make transactions large.
func (w *world) config() string {
	page, batch := []int{20, 200, 5000}[w.rng.IntN(3)], []int{20, 200, 5000}[w.rng.IntN(3)]
	w.t.Logf("page_size %d, batch_events %d", page, batch)
	more := fmt.Sprintf("batch_events: %d, session_timeout: 6s", batch)
	return fmt.Sprintf(`
kafka: {brokers: [%s]}
registry: {url: %q}
schemas: [schemas]
outboxes:
  %s:
    postgres: ${DATABASE_URL}
    page_size: %d
    topic_defaults: {partitions: %d}
    topics: {%s: {}}
projections: [projections/*.yaml]
sinks:
  %s: {kind: duckdb, path: data/warehouse.duckdb, topics: [%s], %s}
  %s: {kind: bleve, path: data/search, %s}
  %s: {kind: redis, url: %q, prefix: %q, %s}
`, `"`+strings.Join(w.kafka.Brokers, `", "`)+`"`, w.registry, w.name, page, partitions, strings.Join(w.topics(), ": {}, "),
		w.sink("warehouse"), strings.Join(w.topics(), ", "), more, w.sink("search"), more, w.sink("cache"), w.redis, w.cachePrefix(), more)
}

// cachePrefix stands before every key of the cache.
func (w *world) cachePrefix() string { return w.name + ":" }
