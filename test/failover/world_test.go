package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		victim() // does not return
	}
	harness.Main(m)
}

// settings make a server small, for a test has up to two.
var settings = map[string]string{"shared_buffers": "32MB", "max_wal_size": "256MB"}

const partitions = 3

// world is one outbox.
type world struct {
	t       *testing.T
	name    string
	topic   string
	brokers []string
	dsn     string // of the database, for relays and writers
	pool    *pgxpool.Pool
	out     *outbox.Outbox
	rng     *rand.Rand
	admin   *kadm.Client
	// cursorEvery is how old a cursor may grow; 0: the default.
	cursorEvery time.Duration
	// page is the most rows of a page; 0: 40.
	page int
	// delivery is how relays publish; empty: the default.
	delivery relay.Delivery
}

func newWorld(t *testing.T, dsn string) *world {
	t.Helper()
	broker := harness.Kafka(t)
	w := &world{t: t, name: harness.Unique("failover"), topic: harness.Unique("failover"), brokers: broker.Brokers, dsn: dsn}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w.rng = rand.New(rand.NewPCG(seed, 0))
	w.admin = kadm.NewClient(broker.Client(t))
	broker.DeleteAtEnd(t, w.topic, "__millrace."+w.name+".cursor", "__millrace."+w.name+".parked")
	w.open()
	if _, err := migrate.Up(t.Context(), w.pool); err != nil {
		t.Fatal(err)
	}
	w.exec(`create table agg (key text primary key, n bigint not null)`)
	w.exec(`insert into agg select 'k' || g, 0 from generate_series(0, 9) g`)
	w.writer()
	return w
}

// open connects to the database at dsn, which may be another one than before.
func (w *world) open() {
	w.t.Helper()
	if w.pool != nil {
		w.pool.Close()
	}
	var err error
	if w.pool, err = pgxpool.New(w.t.Context(), w.dsn); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.pool.Close)
}

func (w *world) writer() {
	w.t.Helper()
	s, err := schemas.Parse(fmt.Sprintf(`{"type": "record", "name": "Counted", "namespace": "test", "millrace.topic": %q, "millrace.key": "key",
		"fields": [{"name": "key", "type": "string"}, {"name": "n", "type": "long"}]}`, w.topic))
	if err != nil {
		w.t.Fatal(err)
	}
	catalogue, err := schemas.NewCatalogue(s)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.out, err = outbox.New(w.t.Context(), w.pool, catalogue); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// events is how many the table holds.
func (w *world) events() (n int64) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), `select count(*) from outbox.event`).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// write commits transactions of one to three events each, by four writers at once; some draw an xid early, some are rolled back.
func (w *world) write(transactions int) {
	w.t.Helper()
	var all sync.WaitGroup
	for range 4 {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), 0))
		all.Go(func() {
			for range transactions / 4 {
				if err := w.transaction(w.t.Context(), rng); err != nil {
					w.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func (w *world) transaction(ctx context.Context, rng *rand.Rand) error {
	tx, err := w.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if rng.IntN(3) == 0 {
		if _, err := tx.Exec(ctx, `select pg_current_xact_id(), pg_sleep(0.002)`); err != nil {
			return err
		}
	}
	key := "k" + strconv.Itoa(rng.IntN(10))
	for range 1 + rng.IntN(3) {
		var n int64
		if err := tx.QueryRow(ctx, `update agg set n = n + 1 where key = $1 returning n`, key).Scan(&n); err != nil {
			return err
		}
		if err := w.out.Write(ctx, tx, outbox.Record{Type: "test.Counted", Fields: map[string]any{"key": key, "n": n}}); err != nil {
			return err
		}
	}
	if rng.IntN(10) == 0 {
		return nil // rolled back
	}
	return tx.Commit(ctx)
}

// background writes until the function that it returns is called.
func (w *world) background() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var writing sync.WaitGroup
	rng := rand.New(rand.NewPCG(w.rng.Uint64(), 0))
	writing.Go(func() {
		for ctx.Err() == nil {
			if err := w.transaction(context.WithoutCancel(ctx), rng); err != nil {
				w.t.Errorf("a writer was disturbed: %v", err)
				return
			}
		}
	})
	return func() { cancel(); writing.Wait() }
}

// parkOne writes an event that the relay must park: it uses a reserved header.
func (w *world) parkOne(key string) {
	w.t.Helper()
	w.exec(`insert into outbox.event (topic, key, type, schema_fp, payload, headers)
		values ($1, $2, 'test.Counted', '\x00000000000000000000000000000000', '', '{"ce_id": "mine"}')`, w.topic, key)
}

func (w *world) config() relay.Config {
	return relay.Config{
		Outbox: w.name, Postgres: w.dsn, Kafka: []kgo.Opt{kgo.SeedBrokers(w.brokers...)}, Registry: &ids{}, PageSize: cmp.Or(w.page, 40), Delivery: w.delivery, CursorInterval: w.cursorEvery,
		Topics: map[string]relay.Topic{w.topic: {Partitions: partitions}}, PollMax: 20 * time.Millisecond,
		RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
}

// ids is a registry that knows one schema.
type ids struct{}

func (*ids) Register(context.Context, string, string) (int, error) { return 7, nil }

// running is a relay of this process.
type running struct {
	*relay.Relay
	t     *testing.T
	stop  func() error
	ended chan struct{}
	err   error
}

func (w *world) relay() *running {
	w.t.Helper()
	made, err := relay.New(w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	r := &running{Relay: made, t: w.t, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = made.Run(ctx)
	}()
	r.stop = func() error { cancel(); <-r.ended; return r.err }
	w.t.Cleanup(func() { _ = r.stop() })
	return r
}

// stopsWith waits until the relay has ended by itself, for the reason given, and has named the command.
func (r *running) stopsWith(want error) {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(time.Minute):
		r.t.Fatalf("the relay goes on: %+v", r.Status())
	}
	if !errors.Is(r.err, want) || !strings.Contains(r.err.Error(), "millrace relay re-anchor") {
		r.t.Fatalf("the relay ended with: %v; want %v, and the command that mends it", r.err, want)
	}
	r.t.Logf("the relay stopped: %v", r.err)
}

// publish runs a relay until ready says that it has published enough.
func (w *world) publish(ready func(relay.Status) bool) {
	w.t.Helper()
	r := w.relay()
	eventually(w.t, "the relay to publish", func() error {
		if s := r.Status(); !ready(s) {
			return fmt.Errorf("it is at %+v", s)
		}
		return nil
	})
	if err := r.stop(); err != nil {
		w.t.Fatal(err)
	}
}

// publishSome stops a relay in the middle of a backlog, some 50 events further on: with pages so small that it is not through before it is stopped.
func (w *world) publishSome() {
	w.t.Helper()
	p, err := relay.Inspect(w.t.Context(), w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	w.page = 4
	w.publish(func(s relay.Status) bool { return s.Seq > p.Seq+50 })
	w.page = 0
}

// publishAll runs a relay until nothing is left.
func (w *world) publishAll() {
	w.t.Helper()
	w.publish(func(relay.Status) bool {
		p, err := relay.Inspect(w.t.Context(), w.config())
		return err == nil && p.T > 0 && p.Behind == 0
	})
}

// reanchor runs re-anchoring in this process and returns what it reports.
func (w *world) reanchor(opts relay.ReAnchorOptions) (relay.Anchorage, []relay.LostEvent) {
	w.t.Helper()
	var lost []relay.LostEvent
	opts.Lost = func(e relay.LostEvent) error { lost = append(lost, e); return nil }
	found, err := relay.ReAnchor(w.t.Context(), w.config(), opts)
	if err != nil {
		w.t.Fatalf("re-anchor: %v", err)
	}
	if found.LostEvents != int64(len(lost)) {
		w.t.Errorf("%d lost events reported, %d listed", found.LostEvents, len(lost))
	}
	w.t.Logf("re-anchor: %+v", found)
	return found, lost
}

// eventually tries until ok returns nil, for at most a minute.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}
