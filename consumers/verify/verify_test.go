package verify_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/consumers/verify"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const added = `{"type":"record","name":"Added","namespace":"test","fields":[{"name":"amount","type":"long"}]}`

// registry knows one schema.
type registry struct{}

func (registry) Schema(context.Context, int) (string, error) { return added, nil }

// counter sums the amounts of a key; 13 cannot be applied, and 0 deletes.
type counter struct{ topic string }

var errThirteen = errors.New("thirteen")

func (c counter) Entity() string { return "counter" }
func (c counter) Topic() string  { return c.topic }
func (c counter) Digest() string { return "1" }
func (c counter) Columns() []projection.Column {
	return []projection.Column{{Name: "sum", Type: projection.Type{Kind: projection.Int}}}
}
func (c counter) CacheKeys(string, projection.State) ([]string, error) { return nil, nil }
func (c counter) Fold(prev projection.State, ev *consumers.Event) (projection.State, error) {
	amount := ev.Fields()["amount"].(int64)
	sum := amount
	if prev.Exists {
		sum += prev.Values[0].(int64)
	}
	switch amount {
	case 13:
		return projection.State{}, errThirteen
	case 0:
		return projection.State{}, nil
	}
	return projection.State{Exists: true, Values: []any{sum}}, nil
}

// rig is a topic, and a sink that follows it.
type rig struct {
	t       *testing.T
	kafka   []kgo.Opt
	topic   string
	name    string
	sink    *sinktest.Memory
	flaky   *flaky // what runs in its place, if set
	cl      *kgo.Client
	seq     int64
	stop    context.CancelFunc
	done    chan error
	manual  bool // keys are put where Kafka's own clients would not
	written int
}

// onBrokers runs a test on the in-process broker and on Kafka.
func onBrokers(t *testing.T, run func(t *testing.T, r *rig)) {
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "events"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(fake.Close)
		run(t, newRig(t, fake.ListenAddrs(), "events"))
	})
	t.Run("kafka", func(t *testing.T) {
		k := harness.Kafka(t)
		t.Parallel()
		run(t, newRig(t, k.Brokers, k.NewTopic(t, 3)))
	})
}

func newRig(t *testing.T, brokers []string, topic string) *rig {
	t.Helper()
	r := &rig{t: t, kafka: []kgo.Opt{kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(100 * time.Millisecond)}, topic: topic, name: harness.Unique("sink")}
	r.sink = sinktest.NewMemory(counter{topic})
	cl, err := kgo.NewClient(append(r.kafka, kgo.TransactionalID(harness.Unique("writer")), kgo.UnknownTopicRetries(100),
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
			return func(rec *kgo.Record, n int) int {
				p := int(compare.PartitionOf(string(rec.Key), int32(n)))
				if r.manual {
					p = (p + 1) % n
				}
				return p
			}
		})))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	r.cl = cl
	return r
}

// add writes amounts of keys: a committed transaction, and an aborted one behind it.
func (r *rig) add(keys []string, amount int64) {
	r.t.Helper()
	codec, err := avro.New(added)
	if err != nil {
		r.t.Fatal(err)
	}
	value, err := codec.AppendEncode(avro.AppendFrame(nil, 1), map[string]any{"amount": amount})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, commit := range []bool{true, false} {
		var records []*kgo.Record
		for _, key := range keys {
			r.seq++
			records = append(records, &kgo.Record{Topic: r.topic, Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
				{Key: "ce_id", Value: fmt.Appendf(nil, "e%d", r.seq)}, {Key: "millrace-seq", Value: []byte(strconv.FormatInt(r.seq, 10))},
			}})
			if commit {
				r.written++
			}
		}
		if err := r.cl.BeginTransaction(); err != nil {
			r.t.Fatal(err)
		}
		if err := r.cl.ProduceSync(r.t.Context(), records...).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
		if err := r.cl.EndTransaction(r.t.Context(), kgo.TransactionEndTry(commit)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func keys(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("key-%d", i)
	}
	return out
}

func (r *rig) projections() []fold.Projection { return []fold.Projection{counter{r.topic}} }

// start runs the sink until stop.
func (r *rig) start() {
	r.t.Helper()
	letters, err := consumers.NewDeadLetterProducer(r.name, r.kafka...)
	if err != nil {
		r.t.Fatal(err)
	}
	var store fold.Sink = r.sink
	if r.flaky != nil {
		store = r.flaky
	}
	f, err := fold.New(fold.Config{Name: r.name, Sink: store, Projections: r.projections(), DeadLetters: letters})
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := consumers.New(consumers.Config{Name: r.name, Topics: []string{r.topic}, Kafka: r.kafka, Registry: registry{}, UnknownGrace: -1,
		MonitorInterval: 50 * time.Millisecond, RetryMin: 10 * time.Millisecond}, f)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	r.stop, r.done = cancel, make(chan error, 1)
	go func() { r.done <- c.Run(ctx) }()
	r.t.Cleanup(r.end)
}

// end stops the sink.
func (r *rig) end() {
	if r.stop == nil {
		return
	}
	r.stop()
	r.stop = nil
	if err := <-r.done; err != nil {
		r.t.Error(err)
	}
}

// caughtUp waits until the sink has everything.
func (r *rig) caughtUp() {
	r.t.Helper()
	adm := kadm.NewClient(r.cl)
	ends, err := adm.ListEndOffsets(r.t.Context(), r.topic)
	if err != nil {
		r.t.Fatal(err)
	}
	r.until("the sink has everything", func() bool {
		at, err := r.sink.Positions(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		behind := false
		ends.Each(func(o kadm.ListedOffset) {
			if o.Offset > 0 && at[consumers.TopicPartition{Topic: r.topic, Partition: o.Partition}] < o.Offset {
				behind = true
			}
		})
		return !behind
	})
}

func (r *rig) until(what string, so func() bool) {
	r.t.Helper()
	for limit := time.Now().Add(time.Minute); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			r.t.Fatal("never: " + what)
		}
	}
}

// fill has the sink hold n keys.
func (r *rig) fill(n int) {
	r.t.Helper()
	for _, amount := range []int64{5, 7} {
		r.add(keys(n), amount)
	}
	r.add([]string{"key-1"}, 0)
	r.start()
	r.caughtUp()
}

func (r *rig) config() verify.Config {
	return verify.Config{Sink: r.name, Store: r.sink, Projections: r.projections(), Kafka: r.kafka, Registry: registry{}}
}

func (r *rig) verify(opts verify.Options) *verify.Result {
	r.t.Helper()
	out, err := verify.Run(r.t.Context(), r.config(), opts)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) state(key string) fold.Stored {
	r.t.Helper()
	all, err := r.sink.Load(r.t.Context(), "counter", []string{key})
	if err != nil {
		r.t.Fatal(err)
	}
	return all[key]
}

// clean fails the test if anything differs.
func (r *rig) clean(out *verify.Result) {
	r.t.Helper()
	if out.Differences != 0 || out.Entities["counter"].Different != 0 {
		r.t.Errorf("differences: %+v %+v", out.Entities["counter"], out.Bronze)
	}
}

func TestASinkThatIsRightIsAsItsTopicSays(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.fill(200)
		out := r.verify(verify.Options{})
		r.clean(out)
		n, events := int64(0), int64(0)
		for i, s := range out.Entities["counter"].Old {
			if s != out.Entities["counter"].New[i] {
				t.Errorf("%+v and %+v", s, out.Entities["counter"].New[i])
			}
			n += s.States
		}
		for _, b := range out.Bronze {
			events += b.Events
		}
		if n != 199 || events != int64(r.written) || out.Events != events || len(out.Notes) != 0 || len(out.Cut) != 3 {
			t.Errorf("%d states, %d events kept and %d read of %d, cut %v, notes %q", n, events, out.Events, r.written, out.Cut, out.Notes)
		}
	})
}

func TestDifferencesMadeBehindTheSinksBackAreFound(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.fill(200)
		changed := r.state("key-7")
		changed.Values = []any{int64(1)}
		r.sink.Put("counter", "key-7", changed)
		r.sink.Drop("counter", "key-8")
		if !r.sink.Double("counter", "key-9") {
			t.Fatal("no key-9")
		}
		r.sink.Put("counter", "strange", changed)
		older := r.state("key-10")
		older.Version--
		r.sink.Put("counter", "key-10", older)
		if !r.sink.DoubleEvent(consumers.TopicPartition{Topic: r.topic}, 0) {
			t.Fatal("no event at 0")
		}
		out := r.verify(verify.Options{})
		got := ""
		for _, d := range out.Entities["counter"].Differences {
			got += fmt.Sprintf("%s %s %s|%s; ", d.Key, d.Kind, d.Old, d.New)
		}
		want := fmt.Sprintf("key-10 version version %d|version %d; key-7 columns sum 1|sum 12; key-8 missing |sum 12; key-9 doubled |; strange unexpected sum 1|; ",
			older.Version, older.Version+1)
		if got != want || out.Differences != 6 {
			t.Errorf("%d differences\ngot  %s\nwant %s", out.Differences, got, want)
		}
		doubled := int64(0)
		for _, b := range out.Bronze {
			doubled += b.Doubled
			if b.Missing+b.Unexpected != 0 || b.Doubled == 1 && (len(b.Examples) != 1 || b.Examples[0] != verify.BronzeEvent{Offset: 0, Kind: "doubled"}) {
				t.Errorf("%+v", b)
			}
		}
		if doubled != 1 {
			t.Errorf("%+v", out.Bronze)
		}
		if d := out.Entities["counter"].Differences[1]; d.Since.IsZero() || d.Version == 0 {
			t.Errorf("%+v", d)
		}
		// Samples: each key is in one turn of four.
		n := int64(0)
		for turn := range uint64(4) {
			n += r.verify(verify.Options{Sample: 4, Turn: turn, Entities: []string{"counter"}}).Differences
		}
		if n != 5 {
			t.Errorf("%d differences in four quarters", n)
		}
	})
}

// What is quarantined, or was dropped, is known from the dead letters and is no difference.
func TestWhatWasPutAsideIsNoDifference(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.fill(20)
		for _, key := range []string{"key-3", "key-4", "key-5"} {
			r.add([]string{key}, 13)
			r.add([]string{key}, 2)
		}
		r.caughtUp()
		desk := dlq.New(r.name, r.kafka...)
		settle := func(key string, drop consumers.Drop) {
			t.Helper()
			all, err := desk.Keys(t.Context(), dlq.Filter{Key: key})
			if err != nil || len(all) != 1 {
				t.Fatalf("%d keys, %v", len(all), err)
			}
			q := all[0].Request(drop)
			if err := desk.Ask(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			if _, err := desk.Wait(t.Context(), []consumers.Request{q}, nil); err != nil {
				t.Fatal(err)
			}
		}
		settle("key-4", consumers.DropFirst)
		settle("key-5", consumers.DropAll)
		r.add([]string{"key-4", "key-5"}, 3)
		r.caughtUp()
		if a, b, c := r.state("key-3").Values[0], r.state("key-4").Values[0], r.state("key-5").Values[0]; a != int64(12) || b != int64(17) || c != int64(15) {
			t.Fatalf("%v %v %v", a, b, c)
		}
		out := r.verify(verify.Options{})
		r.clean(out)
		if out.Waiting != 1 || out.Dropped != 2 {
			t.Errorf("%d wait, %d with settled letters", out.Waiting, out.Dropped)
		}
		wrong := r.state("key-5")
		wrong.Values = []any{int64(16)}
		r.sink.Put("counter", "key-5", wrong)
		if out := r.verify(verify.Options{}); out.Differences != 1 || out.Entities["counter"].Differences[0].Key != "key-5" {
			t.Errorf("%+v", out.Entities["counter"])
		}
	})
}

func TestATopicWhoseKeysAreElsewhereIsFoldedAsAWhole(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.manual = true
		r.fill(50)
		out := r.verify(verify.Options{})
		r.clean(out)
		if len(out.Notes) != 1 || !strings.Contains(out.Notes[0], "as a whole") {
			t.Errorf("%q", out.Notes)
		}
		r.sink.Drop("counter", "key-8")
		if out := r.verify(verify.Options{}); out.Differences != 1 {
			t.Errorf("%+v", out.Entities["counter"])
		}
	})
}

// A log that begins later is completed by the sink's own events; without them, what cannot be known is not compared.
func TestALogThatBeginsLater(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.fill(60)
		r.end()
		adm := kadm.NewClient(r.cl)
		cut := kadm.Offsets{}
		cut.Add(kadm.Offset{Topic: r.topic, Partition: 0, At: 5})
		if out, err := adm.DeleteRecords(t.Context(), cut); err != nil || out.Error() != nil {
			t.Fatal(err, out.Error())
		}
		out := r.verify(verify.Options{})
		r.clean(out)
		if len(out.Notes) != 1 || !strings.Contains(out.Notes[0], "bronze") {
			t.Errorf("%q", out.Notes)
		}
		cfg := r.config()
		cfg.Store = struct {
			fold.Sink
			snapshotter
		}{r.sink, r.sink}
		out, err := verify.Run(t.Context(), cfg, verify.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r.clean(out)
		if len(out.Notes) != 1 || !strings.Contains(out.Notes[0], "begins at offset 5") || len(out.Entities["counter"].Old) != 2 || out.Bronze != nil {
			t.Errorf("%q %+v", out.Notes, out.Entities["counter"])
		}
	})
}

type snapshotter interface {
	Snapshot(context.Context) (fold.Snapshot, error)
}

// A sink whose states and positions cannot be read together goes on while it is read.
func TestAnInexactSinkThatGoesOn(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.fill(100)
		store := &moving{Memory: r.sink, before: func(reading int) {
			if reading == 1 {
				r.add(keys(40), 3)
				r.caughtUp()
			}
			if reading == 2 {
				r.add(keys(20), 4)
				r.caughtUp()
			}
		}}
		cfg := r.config()
		cfg.Store = store
		out, err := verify.Run(t.Context(), cfg, verify.Options{Entities: []string{"counter"}})
		if err != nil {
			t.Fatal(err)
		}
		r.clean(out)
		if out.Entities["counter"].Moved != 40 {
			t.Errorf("%+v", out.Entities["counter"])
		}
		// One of those that moved is wrong.
		store.readings, store.before = 0, func(reading int) {
			if reading == 1 {
				r.add(keys(40), 3)
				r.caughtUp()
				wrong := r.state("key-2")
				wrong.Values = []any{int64(1)}
				r.sink.Put("counter", "key-2", wrong)
				r.sink.Drop("counter", "key-60")
			}
		}
		if out, err = verify.Run(t.Context(), cfg, verify.Options{Entities: []string{"counter"}}); err != nil {
			t.Fatal(err)
		}
		if d := out.Entities["counter"].Differences; out.Differences != 2 || d[0].Key != "key-2" || d[0].Kind != compare.Columns || d[1].Kind != compare.Missing {
			t.Errorf("%+v", out.Entities["counter"])
		}
	})
}

// moving is a store whose snapshots show states as they are when they are read.
type moving struct {
	*sinktest.Memory
	before   func(reading int)
	readings int
}

func (m *moving) Snapshot(ctx context.Context) (fold.Snapshot, error) {
	s, err := m.Memory.Snapshot(ctx)
	return &movingSnapshot{s, m}, err
}

type movingSnapshot struct {
	fold.Snapshot
	m *moving
}

func (*movingSnapshot) Exact() bool { return false }

func (s *movingSnapshot) States(ctx context.Context, entity string, yield func(string, fold.Stored) error) error {
	s.m.readings++
	s.m.before(s.m.readings)
	now, err := s.m.Memory.Snapshot(ctx)
	if err != nil {
		return err
	}
	return now.States(ctx, entity, yield)
}

func TestAKeeperTellsByMetricsAndHTTP(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	r := newRig(t, fake.ListenAddrs(), "events")
	r.fill(100)
	r.sink.Drop("counter", "key-8")
	reg := prometheus.NewRegistry()
	ready := false
	k := verify.NewKeeper(r.name, []string{"counter"}, func(ctx context.Context) (verify.Config, context.Context, func(), error) {
		if !ready {
			return verify.Config{}, nil, nil, verify.ErrNotReady
		}
		return r.config(), ctx, func() {}, nil
	}, slog.New(slog.DiscardHandler), reg)
	server := httptest.NewServer(k)
	t.Cleanup(server.Close)
	ask := func(method, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, readAll(t, resp)
	}
	if status, text := ask("POST", ""); status != http.StatusServiceUnavailable || !strings.Contains(text, "not ready") {
		t.Errorf("%d %s", status, text)
	}
	ready = true
	for body, want := range map[string]int{`{"entities":["nothing"]}`: 400, `{"rows":1}`: 400, `[`: 400} {
		if status, text := ask("POST", body); status != want {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	if status, _ := ask("GET", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", status)
	}
	if status, text := ask("POST", `{"entities":["counter"]}`); status != 200 || !strings.Contains(text, `"differences":1`) || !strings.Contains(text, `"key":"key-8"`) {
		t.Errorf("%d %s", status, text)
	}
	want := fmt.Sprintf("# HELP millrace_verify_differences Keys (of the entity (bronze): events) that the last comparison of the sink with its topics found to differ.\n"+
		"# TYPE millrace_verify_differences gauge\nmillrace_verify_differences{entity=\"counter\",sink=%q} 1\n", r.name)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "millrace_verify_differences"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "millrace_verify_timestamp_seconds", "millrace_verify_duration_seconds"); n != 2 || err != nil {
		t.Error(n, err)
	}
	// By itself.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); k.Every(ctx, 10*time.Millisecond, 1) }()
	r.sink.Drop("counter", "key-9")
	r.until("the metric tells of two keys", func() bool {
		return testutil.GatherAndCompare(reg, strings.NewReader(strings.Replace(want, "} 1\n", "} 2\n", 1)+
			fmt.Sprintf("millrace_verify_differences{entity=\"(bronze)\",sink=%q} 0\n", r.name)), "millrace_verify_differences") == nil
	})
	cancel()
	<-ended
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
