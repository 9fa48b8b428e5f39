package consumers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// Ids of the schemas that the test's registry holds.
const (
	idAdded = 1
	idMoved = 2
)

var texts = map[int]string{
	idAdded: `{"type":"record","name":"Added","namespace":"test","fields":[{"name":"amount","type":"long"}]}`,
	idMoved: `{"type":"record","name":"Moved","namespace":"test","fields":[{"name":"place","type":"string"}]}`,
}

// testRegistry is a registry that can be switched off.
type testRegistry struct {
	away  atomic.Bool
	calls atomic.Int64
}

func (r *testRegistry) Schema(_ context.Context, id int) (string, error) {
	r.calls.Add(1)
	if r.away.Load() {
		return "", fmt.Errorf("ask: %w", registry.ErrUnavailable)
	}
	text, ok := texts[id]
	if !ok {
		return "", registry.ErrNotFound
	}
	return text, nil
}

// counter sums the amounts of a key and remembers the versions that it applied. An amount of 13 cannot be folded.
type counter struct{ topic string }

var errThirteen = errors.New("thirteen")

func (c counter) Entity() string { return "counter" }
func (c counter) Topic() string  { return c.topic }
func (c counter) Digest() string { return "1" }
func (c counter) Columns() []projection.Column {
	return []projection.Column{
		{Name: "sum", Type: projection.Type{Kind: projection.Int}},
		{Name: "applied", Type: projection.Type{Kind: projection.List, Elem: &projection.Type{Kind: projection.Int}}},
	}
}
func (c counter) CacheKeys(string, projection.State) ([]string, error) { return nil, nil }
func (c counter) Fold(prev projection.State, ev *consumers.Event) (projection.State, error) {
	if ev.Type != "test.Added" {
		return prev, nil
	}
	sum, applied := int64(0), []any(nil)
	if prev.Exists {
		sum, applied = prev.Values[0].(int64), prev.Values[1].([]any)
	}
	amount := ev.Fields()["amount"].(int64)
	if amount == 13 {
		return projection.State{}, errThirteen
	}
	return projection.State{Exists: true, Values: []any{sum + amount, append(applied[:len(applied):len(applied)], ev.Seq)}}, nil
}

// rig is a broker, a topic with its truth, and a sink.
type rig struct {
	t        *testing.T
	brokers  []string
	fake     *kfake.Cluster // nil on real Kafka
	topic    string
	name     string
	registry *testRegistry
	sink     *sinktest.Memory
	cl       *kgo.Client
	adm      *kadm.Client
	seq      map[string]int64 // last version by key
	total    int64
	sums     map[string]int64
}

// onBrokers runs a test on the in-process broker, and on a real one unless -short.
func onBrokers(t *testing.T, partitions int, run func(t *testing.T, r *rig)) {
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		run(t, fakeRig(t, partitions))
	})
	t.Run("kafka", func(t *testing.T) {
		k := harness.Kafka(t)
		t.Parallel()
		run(t, newRig(t, k.Brokers, k.NewTopic(t, partitions)))
	})
}

func fakeRig(t *testing.T, partitions int) *rig {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(int32(partitions), "events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	r := newRig(t, fake.ListenAddrs(), "events")
	r.fake = fake
	return r
}

func newRig(t *testing.T, brokers []string, topic string) *rig {
	t.Helper()
	r := &rig{t: t, brokers: brokers, topic: topic, name: harness.Unique("sink"), registry: &testRegistry{},
		seq: map[string]int64{}, sums: map[string]int64{}, sink: sinktest.NewMemory(counter{topic})}
	r.connect()
	return r
}

// connect makes a client, which knows nothing of how the topic was before.
func (r *rig) connect() {
	t := r.t
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.TransactionalID(harness.Unique("producer")), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.UnknownTopicRetries(100)) // a broker that has much to do tells late of a topic that was just made
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	r.cl, r.adm = cl, kadm.NewClient(cl)
}

// added is a record that adds an amount to a key.
func (r *rig) added(key string, amount int64) *kgo.Record {
	codec, err := avro.New(texts[idAdded])
	if err != nil {
		r.t.Fatal(err)
	}
	value, err := codec.AppendEncode(avro.AppendFrame(nil, idAdded), map[string]any{"amount": amount})
	if err != nil {
		r.t.Fatal(err)
	}
	r.total++
	return r.record(key, value, r.total)
}

func (r *rig) record(key string, value []byte, seq int64) *kgo.Record {
	return &kgo.Record{Topic: r.topic, Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
		{Key: "ce_id", Value: fmt.Appendf(nil, "event-%d", seq)},
		{Key: "ce_time", Value: []byte(time.Now().UTC().Format(time.RFC3339Nano))},
		{Key: "millrace-seq", Value: []byte(strconv.FormatInt(seq, 10))},
	}}
}

// produce writes records in a transaction.
func (r *rig) produce(commit bool, records ...*kgo.Record) {
	r.t.Helper()
	ctx := r.t.Context()
	if err := r.cl.BeginTransaction(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		r.t.Fatalf("produce: %v", err)
	}
	if err := r.cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		r.t.Fatalf("end transaction: %v", err)
	}
}

// fill writes n events over a number of keys, in transactions of some size, with aborted ones in between.
func (r *rig) fill(n, keys int) {
	r.t.Helper()
	for done := 0; done < n; {
		var records []*kgo.Record
		for range min(1+done%97, n-done) {
			key := fmt.Sprintf("key-%d", done%keys)
			amount := int64(done%11 + 1)
			records = append(records, r.added(key, amount))
			r.sums[key] += amount
			done++
		}
		r.produce(true, records...)
		if done%3 == 0 {
			r.produce(false, r.record("key-0", records[0].Value, 1<<40))
		}
	}
}

// fold is a Processor on the rig's sink, with a dead-letter topic.
func (r *rig) fold() *fold.Fold { return r.foldInto(r.sink) }

func (r *rig) foldInto(sink fold.Sink) *fold.Fold {
	r.t.Helper()
	letters, err := consumers.NewDeadLetterProducer(r.name, kgo.SeedBrokers(r.brokers...))
	if err != nil {
		r.t.Fatal(err)
	}
	f, err := fold.New(fold.Config{Name: r.name, Sink: sink, Projections: []fold.Projection{counter{r.topic}}, DeadLetters: letters})
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

func (r *rig) config() consumers.Config {
	return consumers.Config{Name: r.name, Topics: []string{r.topic}, Kafka: []kgo.Opt{kgo.SeedBrokers(r.brokers...)}, Registry: r.registry, UnknownGrace: -1,
		MonitorInterval: 50 * time.Millisecond, RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond}
}

// running is a consumer under way.
type running struct {
	*consumers.Consumer
	t    *testing.T
	stop context.CancelFunc
	done chan error
	once sync.Once
	err  error
}

// start runs a consumer until the end of the test, which must not leave a goroutine behind.
func start(t *testing.T, cfg consumers.Config, p consumers.Processor) *running {
	t.Helper()
	c, err := consumers.New(cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Consumer: c, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- c.Run(ctx) }()
	t.Cleanup(func() { _ = r.end() })
	return r
}

// end stops the consumer and returns what Run returned.
func (r *running) end() error {
	r.stop()
	return r.wait()
}

// wait returns what Run returned.
func (r *running) wait() error {
	r.t.Helper()
	r.once.Do(func() {
		select {
		case r.err = <-r.done:
		case <-time.After(40 * time.Second):
			r.t.Error("Run did not return")
		}
	})
	return r.err
}

// caughtUp waits until the sink has every committed record of the topic.
func (r *rig) caughtUp() {
	r.t.Helper()
	// Kafka ends a transaction before its markers are written, so the last stable offset alone may be that of before.
	marks, err := r.adm.ListEndOffsets(r.t.Context(), r.topic)
	if err != nil || marks.Error() != nil {
		r.t.Fatalf("high watermarks: %v %v", err, marks.Error())
	}
	eventually(r.t, "the sink to catch up", func() error {
		at, err := r.sink.Positions(r.t.Context())
		if err != nil {
			return err
		}
		lags, err := consumers.Lags(r.t.Context(), r.adm, at, r.topic)
		if err != nil {
			return err
		}
		for _, l := range lags {
			if hw, ok := marks.Lookup(l.Topic, l.Partition); l.Lag != 0 || !ok || l.Position < hw.Offset && hw.Offset > l.Start {
				return fmt.Errorf("lag %+v, high watermark %+v", l, hw)
			}
		}
		return nil
	})
}

// wantSums compares the sink with what was produced.
func (r *rig) wantSums() {
	r.t.Helper()
	states := r.sink.States("counter")
	if len(states) != len(r.sums) {
		r.t.Errorf("%d states, want %d", len(states), len(r.sums))
	}
	for key, want := range r.sums {
		s, ok := states[key]
		if !ok {
			r.t.Errorf("%s is absent", key)
			continue
		}
		if got := s.Values[0].(int64); got != want {
			r.t.Errorf("%s is %d, want %d", key, got, want)
		}
		last := int64(0)
		for _, v := range s.Values[1].([]any) {
			if v.(int64) <= last {
				r.t.Errorf("%s: version %d came after %d", key, v, last)
			}
			last = v.(int64)
		}
	}
}

// eventually polls until f returns nil; what it waits for has no signal, being in another process.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(45 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// logged is a log that a test reads.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logged) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), part)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// noLeaks fails the test if anything that it starts afterwards, broker and consumers, is still running at its end.
func noLeaks(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}
