package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/test/harness"
)

// setup says how a world differs from the usual one.
type setup struct {
	// broker is the broker; nil: the package's, which no test kills.
	broker *broker
	// postgres is the database, as the relay's user and the writers reach it; empty: one of its own on the shared server.
	postgres string
	// registry is the URL; empty: the shared registry.
	registry string
	// outbox are settings of the outbox, one a line.
	outbox []string
	// mortal says that the test takes PostgreSQL away from the writers, too: what they lose before a commit is begun again.
	mortal bool
	// slow has relays wait for some seconds before they start over.
	slow bool
	// topic are settings of the events topic, such as "partitions: 3".
	topic string
}

// world is one outbox: a database, topics, the gates through which its relays reach them, and the log of its writers.
type world struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	name   string // of the outbox
	topic  string // its events go to
	dir    string
	binary string
	broker *broker
	admin  *kadm.Client // past the gate
	pool   *pgxpool.Pool
	out    *outbox.Outbox
	log    *committed
	mortal bool

	// kafka, postgres and registry are what the relays reach their servers through; dsn is the database behind its gate.
	kafka, postgres, registry *gate
	dsn                       string
	registryURL               string // past the gate
	// onlyAvro has writers write Avro alone: JSON is written with the newest schema that anybody stored.
	onlyAvro bool
	// lossy has half of the writers' commits not wait for the disk.
	lossy  bool
	relays []*relay
}

// newWorld prepares everything but relays.
func newWorld(t *testing.T, s setup) *world {
	t.Helper()
	w := &world{t: t, name: harness.Unique("faults"), topic: harness.Unique("faults"), dir: t.TempDir(), log: newCommitted(), broker: s.broker, mortal: s.mortal}
	w.seed = seed(t)
	w.rng = rand.New(rand.NewPCG(w.seed, 0))
	if w.broker == nil {
		w.broker = sharedBroker(t)
	}
	if s.postgres == "" {
		s.postgres = harness.Postgres(t).DSN
	}
	if s.registry == "" {
		s.registry = harness.Registry(t)
	}
	w.binary = harness.CrashBinary(t)
	w.admin = kadm.NewClient(w.broker.Client(t))
	w.broker.DeleteAtEnd(t, append(w.internal(), w.topic)...)
	w.kafka = w.broker.gate(t)
	w.postgres, w.dsn = through(t, "postgres", s.postgres)
	var registry string
	w.registry, registry = through(t, "registry", s.registry)
	w.registryURL = s.registry
	w.configure(registry, s)
	w.prepareDatabase(s.postgres)
	return w
}

// through opens a gate to the server of a URL and returns the URL that leads through it.
func through(t *testing.T, name, to string) (*gate, string) {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, name, u.Host)
	u.Host = g.addr
	return g, u.String()
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

// internal are the topics that hold the relay's own records.
func (w *world) internal() []string {
	return []string{w.cursorTopic(), "__millrace." + w.name + ".parked"}
}

func (w *world) cursorTopic() string { return "__millrace." + w.name + ".cursor" }

// configure writes millrace.yaml.
func (w *world) configure(registry string, s setup) {
	w.t.Helper()
	if s.topic == "" {
		s.topic = "partitions: 3"
	}
	settings := append([]string{"postgres: ${DATABASE_URL}", "poll_max: 20ms", fmt.Sprintf("topics: {%s: {%s}}", w.topic, s.topic)}, s.outbox...)
	if !s.slow {
		settings = append(settings, "retry_min: 50ms", "retry_max: 500ms")
	}
	text := fmt.Sprintf("kafka: {brokers: [%q]}\nregistry: {url: %q, timeout: 2s}\noutboxes:\n  %s:\n    %s\n",
		w.kafka.addr, registry, w.name, strings.Join(settings, "\n    "))
	if err := os.WriteFile(filepath.Join(w.dir, "millrace.yaml"), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) prepareDatabase(dsn string) {
	w.t.Helper()
	var err error
	if w.pool, err = pgxpool.New(w.t.Context(), dsn); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.pool.Close)
	if _, err := migrate.Up(w.t.Context(), w.pool); err != nil {
		w.t.Fatalf("make the outbox: %v", err)
	}
	w.exec(`create table counter (key text primary key, n bigint not null)`)
	w.out = w.writer(stepSchema(w.topic, ""))
}

// stepSchema is the schema of the events here: how many events the key has had. more are further fields.
func stepSchema(topic, more string) string {
	return fmt.Sprintf(`{"type": "record", "name": "Step", "namespace": "faults", "millrace.topic": %q, "millrace.key": "key",
		"fields": [{"name": "key", "type": "string"}, {"name": "n", "type": "long"}, {"name": "pad", "type": "string", "default": ""}%s]}`,
		topic, more)
}

// writer stores a schema, as a program does when it starts.
func (w *world) writer(schema string) *outbox.Outbox {
	w.t.Helper()
	s, err := schemas.Parse(schema)
	if err != nil {
		w.t.Fatal(err)
	}
	catalogue, err := schemas.NewCatalogue(s)
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := outbox.New(w.t.Context(), w.pool, catalogue)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// exec runs a statement past the gate.
func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(context.Background(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// finish waits until every event of the log is published, holds the topic against the log, and stops what still runs.
func (w *world) finish() {
	w.t.Helper()
	w.untilPublished()
	w.verify()
	for _, r := range w.relays {
		if r.process.Running() {
			r.stop()
		}
	}
}

// untilPublished waits until a relay says that everything in the log is published.
func (w *world) untilPublished() {
	w.t.Helper()
	want := w.log.events()
	eventually(w.t, fmt.Sprintf("%d events published", want), func() (bool, string) {
		var all []string
		for _, r := range w.relays {
			if !r.process.Running() {
				continue
			}
			s := r.ask()
			if published(want)(s) {
				return true, ""
			}
			all = append(all, fmt.Sprintf("%s: %+v", r.name, s))
		}
		if len(all) == 0 {
			w.t.Fatal("no relay runs any more")
		}
		return false, strings.Join(all, "; ")
	})
}
