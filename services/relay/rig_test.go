package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// rig is an outbox of one test: a database, a broker, a registry, and names of its own.
type rig struct {
	t        *testing.T
	name     string // of the outbox
	topic    string
	brokers  []string
	pool     *pgxpool.Pool
	dsn      string
	out      *outbox.Outbox
	registry relay.Registry
}

// everywhere runs a test on the in-process broker with an in-process registry, and on real Kafka with a real one.
func everywhere(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("in-process", func(t *testing.T) { // as a broker before 4.0, which franz-go's producer publishes to
		t.Parallel()
		test(t, newRig(t, fakeBroker(t, kfake.MaxVersions(kversion.V3_9_0())), &memoryRegistry{}))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		test(t, realRig(t))
	})
}

func realRig(t *testing.T) *rig {
	t.Helper()
	broker := harness.Kafka(t)
	client, err := registry.New(registry.Config{URL: harness.Registry(t)})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, broker.Brokers, client)
	broker.DeleteAtEnd(t, r.topic, relay.CursorTopic(r.name), relay.ParkedTopic(r.name))
	return r
}

func fakeBroker(t *testing.T, opts ...kfake.Opt) []string {
	t.Helper()
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

func newRig(t *testing.T, brokers []string, reg relay.Registry) *rig {
	t.Helper()
	db := harness.Postgres(t)
	r := &rig{t: t, name: harness.Unique("out"), topic: harness.Unique("test"), brokers: brokers, pool: db.Pool(t), dsn: db.DSN, registry: reg}
	if _, err := migrate.Up(t.Context(), r.pool); err != nil {
		t.Fatal(err)
	}
	if _, err := r.pool.Exec(t.Context(), `create table agg (key text primary key, n bigint not null)`); err != nil {
		t.Fatal(err)
	}
	r.out = r.writer(countedSchema(r.topic))
	return r
}

// countedSchema is an event that says how many its key has had.
func countedSchema(topic string) string {
	return fmt.Sprintf(`{"type": "record", "name": "Counted", "namespace": "test", "millrace.topic": %q, "millrace.key": "key",
		"fields": [{"name": "key", "type": "string"}, {"name": "n", "type": "long"}, {"name": "pad", "type": "string", "default": ""}]}`, topic)
}

func (r *rig) writer(texts ...string) *outbox.Outbox {
	r.t.Helper()
	var all []*schemas.Schema
	for _, text := range texts {
		s, err := schemas.Parse(text)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, s)
	}
	catalogue, err := schemas.NewCatalogue(all...)
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := outbox.New(r.t.Context(), r.pool, catalogue)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) exec(sql string, args ...any) {
	r.t.Helper()
	if _, err := r.pool.Exec(r.t.Context(), sql, args...); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

// emit writes an event of JSON through plain SQL.
func (r *rig) emit(key string, n int64) {
	r.t.Helper()
	r.exec(`select outbox.emit('test.Counted', $1, jsonb_build_object('key', $1::text, 'n', $2::bigint))`, key, n)
}

func (r *rig) config() relay.Config {
	return relay.Config{
		Outbox: r.name, Postgres: r.dsn, Kafka: []kgo.Opt{kgo.SeedBrokers(r.brokers...)}, Registry: r.registry,
		Topics:   map[string]relay.Topic{r.topic: {Partitions: 3}},
		Logger:   slog.New(slog.NewTextHandler(testLog{r.t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
		RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond, PollMax: 20 * time.Millisecond,
	}
}

// running is a relay that runs.
type running struct {
	*relay.Relay
	t      *testing.T
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // set when ended is closed
}

// run starts a relay; it is stopped at the end of the test. change may alter the configuration and the relay.
func (r *rig) run(change func(*relay.Config), prepare ...func(*relay.Relay)) *running {
	r.t.Helper()
	cfg := r.config()
	if change != nil {
		change(&cfg)
	}
	made, err := relay.New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range prepare {
		p(made)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Relay: made, t: r.t, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(run.ended)
		run.err = made.Run(ctx)
	}()
	r.t.Cleanup(func() { run.stop() })
	return run
}

// stop ends the relay and returns what Run returned.
func (run *running) stop() error {
	run.cancel()
	return run.wait()
}

// wait returns what Run returned by itself.
func (run *running) wait() error {
	run.t.Helper()
	select {
	case <-run.ended:
		return run.err
	case <-time.After(60 * time.Second):
		run.t.Fatal("the relay does not end")
		return nil
	}
}

// until waits until the relay's status is as wanted.
func (run *running) until(what string, ok func(relay.Status) bool) {
	run.t.Helper()
	eventually(run.t, what, func() error {
		if s := run.Status(); !ok(s) {
			return fmt.Errorf("status is %+v", s)
		}
		return nil
	})
}

func (run *running) untilSeq(seq int64) {
	run.t.Helper()
	run.until(fmt.Sprintf("seq %d", seq), func(s relay.Status) bool { return s.Seq >= seq })
}

// eventually tries until ok returns nil, for at most a minute.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
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

func (r *rig) client(opts ...kgo.Opt) *kgo.Client {
	r.t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(r.brokers...), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// committed reads a topic to its end as a read_committed consumer sees it.
func (r *rig) committed(topic string) []*kgo.Record {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 90*time.Second)
	defer cancel()
	ends := r.stableEnds(ctx, topic)
	at := map[int32]kgo.Offset{}
	left := 0
	for p, end := range ends {
		at[p] = kgo.NewOffset().AtStart()
		if end > 0 {
			left++
		}
	}
	c := r.client(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}))
	defer c.Close()
	var out []*kgo.Record
	for left > 0 {
		fetches := c.PollFetches(ctx)
		if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
			r.t.Fatalf("read %s: %v", topic, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Offset+1 == ends[rec.Partition] {
				left--
			}
			if !rec.Attrs.IsControl() && rec.Offset < ends[rec.Partition] {
				out = append(out, rec)
			}
		})
	}
	return out
}

// stableEnds returns where the committed part of a topic ends once no transaction is open on it.
func (r *rig) stableEnds(ctx context.Context, topic string) map[int32]int64 {
	r.t.Helper()
	admin := kadm.NewClient(r.client())
	ends := map[int32]int64{}
	eventually(r.t, "open transactions on "+topic+" to end", func() error {
		high, err := admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		stable, err := admin.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return err
		}
		var open error
		high.Each(func(h kadm.ListedOffset) {
			s, _ := stable.Lookup(topic, h.Partition)
			ends[h.Partition] = h.Offset
			open = errors.Join(open, h.Err, s.Err)
			if s.Offset < h.Offset {
				open = errors.Join(open, fmt.Errorf("partition %d: %d of %d are stable", h.Partition, s.Offset, h.Offset))
			}
		})
		return open
	})
	return ends
}

// testLog writes log lines to the test.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Logf("%s", p[:len(p)-1])
	}
	return len(p), nil
}

// memoryRegistry gives out ids by subject and text. fail, if set, is asked first.
type memoryRegistry struct {
	mu    sync.Mutex
	ids   map[[2]string]int
	fail  func(subject, text string) error
	asked int
}

func (m *memoryRegistry) Register(ctx context.Context, subject, text string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.fail != nil {
		if err := m.fail(subject, text); err != nil {
			return 0, err
		}
	}
	at := [2]string{subject, text}
	if m.ids == nil {
		m.ids = map[[2]string]int{}
	}
	if _, ok := m.ids[at]; !ok {
		m.ids[at] = 100 + len(m.ids)
	}
	return m.ids[at], ctx.Err()
}

func (m *memoryRegistry) set(fail func(subject, text string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

func errNotYet(all ...relay.Status) error { return fmt.Errorf("not yet: %+v", all) }

var errUnavailable = registry.ErrUnavailable
