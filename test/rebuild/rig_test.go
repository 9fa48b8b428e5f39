package rebuild

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// patience is how long anything may take that is waited for, on a machine with much else to do.
const patience = 2 * time.Minute

// sessionTimeout is the shortest that a broker takes: so long the partitions of a process that was killed wait.
const sessionTimeout = 6 * time.Second

// schema is that of the only event. Folding it counts, so that an event that is lost or applied twice shows.
const schema = `{"type": "record", "name": "Moved", "namespace": "bank", "millrace.topic": %q, "millrace.key": "account",
	"fields": [{"name": "account", "type": "string"}, {"name": "amount", "type": "long"}, {"name": "memo", "type": "string"}]}`

// declaration is the projection; %s are the topic and the rule of the column fee, which tests change.
const declaration = `entity: account
topic: %s
columns: {n: int, sum: int, fee: int}
on:
  bank.Moved:
    set: {n: state.?n.orValue(0) + 1, sum: state.?sum.orValue(0) + event.amount, memo: event.memo, seq: version, fee: %s}
cache: {keys: ["'account:' + key"]}
search: {text: [memo]}
`

// The rules of the column fee, and what they make of an amount.
const (
	oldFee = "event.amount * 2"
	newFee = "event.amount * 3"
)

// account is what the state of a key must be.
type account struct {
	n, sum, seq, amount int64
	memo                string
}

// rig is a topic with its truth, one sink that follows it, and those who read the sink.
type rig struct {
	t          *testing.T
	kind       string // of the sink
	broker     *harness.KafkaBroker
	registry   string
	name       string // of the sink
	topic      string
	partitions int32
	dir        string
	url        string // of the store, where it is a server
	listen     string
	extra      string // further settings of the sink
	unload     func() // ends the load

	cl    *kgo.Client
	adm   *kadm.Client
	codec *avro.Codec
	id    int // of the schema

	mu    sync.Mutex // guards the following; whoever makes an event holds it until the event is on its topic
	seq   int64
	truth map[string]account
	sent  int

	procs  sync.Mutex // guards the following
	proc   *process   // the one that runs, or ran last
	prints string     // what processes printed that have ended
	// crashes says that the one before proc was killed by itself.
	crashes bool
}

func newRig(t *testing.T, kind string, extra string) *rig {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	broker := harness.Kafka(t)
	r := &rig{t: t, kind: kind, broker: broker, registry: harness.Registry(t), name: harness.Unique("rebuild-" + kind), dir: t.TempDir(), partitions: 2,
		truth: map[string]account{}, listen: fmt.Sprintf("127.0.0.1:%d", port), extra: extra}
	r.topic = r.name + ".accounts"
	broker.CreateTopic(t, r.topic, int(r.partitions))
	broker.DeleteAtEnd(t, consumers.DeadLetterTopic(r.name), consumers.ControlTopic(r.name), rebuild.Topic(r.name))
	r.cl = broker.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(1000)) // a broker that has much to do tells late of a new topic
	r.adm = kadm.NewClient(r.cl)
	r.url = storeURL(t, r)
	r.register()
	r.declare(oldFee)
	r.configure()
	return r
}

func (r *rig) register() {
	r.t.Helper()
	text := fmt.Sprintf(schema, r.topic)
	reg, err := registry.New(registry.Config{URL: r.registry})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.id, err = reg.Register(r.t.Context(), r.topic+"-bank.Moved", text); err != nil {
		r.t.Fatal(err)
	}
	if r.codec, err = avro.New(text); err != nil {
		r.t.Fatal(err)
	}
	r.write("schemas/Moved.avsc", text)
}

// declare writes the projection.
func (r *rig) declare(fee string) {
	r.t.Helper()
	r.write("projections/account.yaml", fmt.Sprintf(declaration, r.topic, fee))
}

func (r *rig) configure() {
	r.t.Helper()
	r.write("millrace.yaml", fmt.Sprintf(`
kafka: {brokers: [%q]}
registry: {url: %q}
schemas: [schemas]
projections: [projections/*.yaml]
sinks:
  %s: {%s, batch_events: 50, session_timeout: %v%s}
http: {listen: %q}
`, r.broker.Brokers[0], r.registry, r.name, storeConfig(r), sessionTimeout, r.extra, r.listen))
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// home is the partition of a key.
func (r *rig) home(key string) int32 {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int32(h.Sum32() % uint32(r.partitions))
}

// event is the next event of a key. The caller holds mu.
func (r *rig) event(key, memo string) (*kgo.Record, error) {
	r.seq++
	amount := r.seq%17 + 1
	value, err := r.codec.AppendEncode(avro.AppendFrame(nil, r.id), map[string]any{"account": key, "amount": amount, "memo": memo})
	if err != nil {
		return nil, err
	}
	a := r.truth[key]
	r.truth[key] = account{a.n + 1, a.sum + amount, r.seq, amount, memo}
	return r.record(key, value), nil
}

func (r *rig) record(key string, value []byte) *kgo.Record {
	return &kgo.Record{Topic: r.topic, Partition: r.home(key), Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
		{Key: "ce_id", Value: fmt.Appendf(nil, "event-%d", r.seq)}, {Key: "ce_type", Value: []byte("bank.Moved")},
		{Key: "ce_time", Value: []byte(time.Now().UTC().Format(time.RFC3339Nano))}, {Key: "millrace-seq", Value: strconv.AppendInt(nil, r.seq, 10)},
	}}
}

// put makes n events over a few keys and puts them on the topic.
func (r *rig) put(n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	records := make([]*kgo.Record, n)
	for i := range records {
		var err error
		if records[i], err = r.event(fmt.Sprintf("key-%02d", (r.seq*7)%23), fmt.Sprint("memo ", i)); err != nil {
			return err
		}
	}
	if err := r.cl.ProduceSync(r.t.Context(), records...).FirstErr(); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	r.sent += n
	return nil
}

func (r *rig) fill(n int) {
	r.t.Helper()
	if err := r.put(n); err != nil {
		r.t.Fatal(err)
	}
}

// bad puts a record of a key that cannot be decoded. It takes a version, as any event does.
func (r *rig) bad(key string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	if err := r.cl.ProduceSync(r.t.Context(), r.record(key, []byte("not Avro"))).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// load writes a few events all the time, until unload.
func (r *rig) load() {
	over := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				if err := r.put(3); err != nil && r.t.Context().Err() == nil {
					r.t.Errorf("load: %v", err)
					return
				}
			}
		}
	})
	r.unload = sync.OnceFunc(func() { close(over); writing.Wait() })
	r.t.Cleanup(r.unload)
}

// now is the truth as it is now.
func (r *rig) now() map[string]account {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.truth)
}

// eventually waits until f returns nil; what it waits for has no signal, being in another process.
func (r *rig) eventually(what string, f func() error) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if p := r.process(); p != nil && !p.Running() && !p.killed.Load() {
			r.t.Fatalf("waiting for %s: the sink has ended: %v\n%s", what, err, p.Output())
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waiting for %s: %v\n%s", what, err, r.log())
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// caughtUp waits until every record of the topic is applied by the generation that serves.
func (r *rig) caughtUp() {
	r.t.Helper()
	ends, err := r.adm.ListEndOffsets(r.t.Context(), r.topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("the sink to catch up", func() error {
		s, err := r.status()
		if err != nil {
			return err
		}
		at := map[int32]int64{}
		for _, p := range s.Partitions {
			at[p.Partition] = p.Position
		}
		var behind []string
		ends.Each(func(o kadm.ListedOffset) {
			if at[o.Partition] < o.Offset {
				behind = append(behind, fmt.Sprintf("partition %d is at %d of %d", o.Partition, at[o.Partition], o.Offset))
			}
		})
		if len(behind) > 0 {
			return errors.New(strings.Join(behind, ", "))
		}
		return nil
	})
}

// group is the consumer group of a generation.
func (r *rig) group(generation int) string {
	if generation > 1 {
		return fmt.Sprintf("millrace.%s.g%d", r.name, generation)
	}
	return "millrace." + r.name
}

// followed waits until every generation has applied every record of the topic.
func (r *rig) followed() {
	r.t.Helper()
	ends, err := r.adm.ListEndOffsets(r.t.Context(), r.topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		r.t.Fatal(err)
	}
	for n := range r.read().Generations {
		r.eventually(fmt.Sprintf("generation %d to follow", n), func() error {
			at, err := r.adm.FetchOffsets(r.t.Context(), r.group(n))
			if err != nil {
				return err
			}
			ends.Each(func(o kadm.ListedOffset) {
				if got, ok := at.Lookup(o.Topic, o.Partition); o.Offset > 0 && (!ok || got.At < o.Offset) {
					err = fmt.Errorf("partition %d is at %d of %d", o.Partition, got.At, o.Offset)
				}
			})
			return err
		})
	}
}

// ready waits until the sink has everything, and by which declarations it runs is recorded.
func (r *rig) ready() {
	r.t.Helper()
	r.caughtUp()
	r.until("the declarations to be recorded", func(rec rebuild.Record) bool { return rec.Generations[rec.Serving] != nil })
}

// full says whether everything is run on everything.
func full() bool { return os.Getenv("MILLRACE_TEST_FULL") != "" }

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
