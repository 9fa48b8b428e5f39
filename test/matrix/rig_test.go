package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/position"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// patience is how long anything may take that is waited for, on a machine with much else to do.
const patience = 90 * time.Second

// sessionTimeout is the shortest that a broker takes: so long the partitions of a process that was killed wait.
const sessionTimeout = 6 * time.Second

// schema is that of the only event. Folding it counts, so that an event that is lost or applied twice shows.
const schema = `{"type": "record", "name": "Moved", "namespace": "bank", "millrace.topic": %q, "millrace.key": "account",
	"fields": [{"name": "account", "type": "string"}, {"name": "amount", "type": "long"}, {"name": "memo", "type": "string"}]}`

// declaration is the projection; %s are the topic and further columns.
const declaration = `entity: account
topic: %s
columns: {n: int, sum: int}
on:
  bank.Moved:
    set: {n: state.?n.orValue(0) + 1, sum: state.?sum.orValue(0) + event.amount, memo: event.memo, seq: version%s}
cache: {keys: ["'account:' + key"]}
search: {text: [memo]}
`

// account is what the state of a key must be.
type account struct {
	n, sum, seq int64
	memo        string
}

// rig is a topic with its truth, and one sink that follows it.
type rig struct {
	t          *testing.T
	kind       string // of the sink
	broker     *harness.KafkaBroker
	registry   string
	name       string // of the sink
	topic      string
	partitions int32
	generation int // that serves; 0: the first
	dir        string
	url        string    // of the store, where it is a server: not through wire
	wire       *wire     // between the process and the store; nil if that is no server
	receiver   *receiver // of a webhook; nil for other kinds

	cl     *kgo.Client
	adm    *kadm.Client
	codec  *avro.Codec
	id     int    // of the schema
	branch string // of events, once their schema has it
	seq    int64
	truth  map[string]account
	sent   []*kgo.Record
	aside  int // of sent: dead letters
	procs  []*process
}

func newRig(t *testing.T, kind string, partitions int) *rig {
	t.Helper()
	broker := harness.Kafka(t)
	r := &rig{t: t, kind: kind, broker: broker, registry: harness.Registry(t), name: harness.Unique("matrix-" + kind), dir: t.TempDir(), partitions: int32(partitions),
		truth: map[string]account{}}
	r.topic = r.name + ".accounts"
	broker.CreateTopic(t, r.topic, partitions)
	broker.DeleteAtEnd(t, consumers.DeadLetterTopic(r.name), consumers.ControlTopic(r.name), position.Topic(r.name))
	r.connect()
	if r.url = storeURL(t, r); r.url != "" {
		u, err := url.Parse(r.url)
		if err != nil {
			t.Fatal(err)
		}
		r.wire = newWire(t, u.Host)
	}
	r.declare()
	return r
}

// connect makes a client, which knows nothing of how the topic was before.
func (r *rig) connect() {
	r.t.Helper()
	r.cl = r.broker.Client(r.t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(1000)) // a broker that has much to do tells late of a new topic
	r.adm = kadm.NewClient(r.cl)
}

// declare registers the schema and writes the configuration.
func (r *rig) declare() {
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
	r.write("projections/account.yaml", fmt.Sprintf(declaration, r.topic, ""))
	through := r.url
	if r.wire != nil {
		u, err := url.Parse(r.url)
		if err != nil {
			r.t.Fatal(err)
		}
		u.Host = r.wire.addr
		through = u.String()
	}
	r.write("millrace.yaml", fmt.Sprintf(`
kafka: {brokers: [%q]}
registry: {url: %q}
schemas: [schemas]
projections: [projections/*.yaml]
sinks:
  %s: {%s, batch_events: 50, session_timeout: %v}
`, r.broker.Brokers[0], r.registry, r.name, storeConfig(r, through), sessionTimeout))
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

// home is the partition of a key. It does not follow a topic that somebody enlarges, as the relay's does not.
func (r *rig) home(key string) int32 {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int32(h.Sum32() % uint32(r.partitions))
}

// event is the next event of a key.
func (r *rig) event(key, memo string) *kgo.Record {
	r.t.Helper()
	r.seq++
	amount := r.seq%17 + 1
	fields := map[string]any{"account": key, "amount": amount, "memo": memo}
	if r.branch != "" {
		fields["branch"] = r.branch
	}
	value, err := r.codec.AppendEncode(avro.AppendFrame(nil, r.id), fields)
	if err != nil {
		r.t.Fatal(err)
	}
	a := r.truth[key]
	r.truth[key] = account{a.n + 1, a.sum + amount, r.seq, memo}
	return r.record(key, value, r.seq)
}

func (r *rig) record(key string, value []byte, seq int64) *kgo.Record {
	return &kgo.Record{Topic: r.topic, Partition: r.home(key), Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
		{Key: "ce_id", Value: fmt.Appendf(nil, "event-%d", seq)}, {Key: "ce_type", Value: []byte("bank.Moved")},
		{Key: "ce_time", Value: []byte(time.Now().UTC().Format(time.RFC3339Nano))}, {Key: "millrace-seq", Value: strconv.AppendInt(nil, seq, 10)},
	}}
}

// bad is a record of a key that cannot be decoded. It takes a version, as any event does.
func (r *rig) bad(key string) *kgo.Record {
	r.seq++
	return r.record(key, []byte("not Avro"), r.seq)
}

func (r *rig) produce(records ...*kgo.Record) {
	r.t.Helper()
	if err := r.cl.ProduceSync(r.t.Context(), records...).FirstErr(); err != nil {
		r.t.Fatalf("produce: %v", err)
	}
	r.sent = append(r.sent, records...)
}

// fill writes n events over a few keys.
func (r *rig) fill(n int) {
	r.t.Helper()
	var records []*kgo.Record
	for i := range n {
		records = append(records, r.event(fmt.Sprintf("key-%02d", i%23), fmt.Sprint("memo ", i)))
	}
	r.produce(records...)
}

// process is one process of the sink.
type process struct {
	*harness.Process
	base string
	// killed says that it was meant to end.
	killed atomic.Bool
}

// kill is kill -9.
func (p *process) kill(t *testing.T) {
	p.killed.Store(true)
	p.Kill(t)
}

func (r *rig) start() *process {
	r.t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		r.t.Fatal(err)
	}
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	p := &process{base: "http://" + listen, Process: harness.Start(r.t, harness.Command{
		Path: harness.Binary(r.t), Args: []string{"-c", "millrace.yaml", "sink", r.name, "--listen", listen}, Dir: r.dir, Name: r.name,
	})}
	r.procs = append(r.procs, p)
	return p
}

// status is what a process says of its sink.
type status struct {
	Problem    string
	Trouble    string // why it is not fed
	Partitions []struct {
		Partition int32
		State     string
		Position  int64
	}
}

var asking = &http.Client{Timeout: 5 * time.Second}

func (r *rig) status(p *process) (s status, err error) {
	resp, err := asking.Get(p.base + "/v1/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	var all map[string]status
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return s, err
	}
	return all["sink "+r.name], nil
}

// positions are where the running processes say that the sink is.
func (r *rig) positions() map[int32]int64 {
	out := map[int32]int64{}
	for _, p := range r.procs {
		if !p.Running() {
			continue
		}
		s, err := r.status(p)
		if err != nil {
			continue
		}
		for _, one := range s.Partitions {
			out[one.Partition] = max(out[one.Partition], one.Position)
		}
	}
	return out
}

// caughtUp waits until every record of the topic is applied.
func (r *rig) caughtUp() {
	r.t.Helper()
	ends, err := r.adm.ListEndOffsets(r.t.Context(), r.topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("the sink to catch up", func() error {
		at := r.positions()
		var behind error
		ends.Each(func(o kadm.ListedOffset) {
			if at[o.Partition] < o.Offset {
				behind = fmt.Errorf("partition %d is at %d of %d", o.Partition, at[o.Partition], o.Offset)
			}
		})
		return behind
	})
}

// owns waits until a process has so many partitions.
func (r *rig) owns(p *process, n int) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%d partitions", n), func() error {
		s, err := r.status(p)
		if err == nil && len(s.Partitions) != n {
			err = fmt.Errorf("it has %d: %s", len(s.Partitions), s.Problem)
		}
		return err
	})
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
		ended := slices.ContainsFunc(r.procs, func(p *process) bool { return !p.Running() && !p.killed.Load() })
		if ended || time.Now().After(deadline) {
			for _, p := range r.procs {
				r.t.Logf("a process (running: %v) said:\n%s", p.Running(), p.Output())
			}
			r.t.Fatalf("waiting for %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stop ends every process in order.
func (r *rig) stop() {
	r.t.Helper()
	for _, p := range r.procs {
		if p.Running() {
			p.killed.Store(true)
			if code := p.Stop(r.t, patience); code != 0 {
				r.t.Errorf("the sink ended with %d:\n%s", code, p.Output())
			}
		}
	}
}

// verify catches up, stops the sink, and compares what the store holds with the truth.
//
// Promise 4: each event has its effect once, in the order of its key.
func (r *rig) verify() {
	r.t.Helper()
	r.caughtUp()
	r.stop()
	r.compare()
}

func (r *rig) compare() {
	r.t.Helper()
	got, positions := r.stored()
	for key, want := range r.truth {
		if got[key] != want {
			r.t.Errorf("%.40q is %+v, want %+v", key, got[key], want)
		}
	}
	ends, err := r.adm.ListEndOffsets(r.t.Context(), r.topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		r.t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if at, ok := positions[consumers.TopicPartition{Topic: o.Topic, Partition: o.Partition}]; o.Offset > 0 && (!ok || at != o.Offset) {
			r.t.Errorf("the position of partition %d is %d, the topic's end %d", o.Partition, at, o.Offset)
		}
	})
	if events, distinct, ok := r.bronze(); ok && (events != len(r.sent)-r.aside || distinct != events) {
		r.t.Errorf("bronze holds %d events, %d of them distinct; %d were sent that can be applied", events, distinct, len(r.sent)-r.aside)
	}
	if r.aside > 0 {
		if got := r.letters(); got != r.aside {
			r.t.Errorf("%d dead letters, want %d", got, r.aside)
		}
	}
}

// letters counts the distinct dead letters of the sink.
func (r *rig) letters() int {
	r.t.Helper()
	seen := map[string]bool{}
	err := consumers.ScanLetters(r.t.Context(), []kgo.Opt{kgo.SeedBrokers(r.broker.Brokers...)}, r.name, func(l consumers.Letter) error {
		seen[fmt.Sprint(l.TopicPartition, l.Offset)] = true
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return len(seen)
}

// members are the group's, by id, with its state.
func (r *rig) members(ctx context.Context) (state, ids string, err error) {
	groups, err := r.adm.DescribeGroups(ctx, "millrace."+r.name)
	if err != nil {
		return "", "", err
	}
	g := groups["millrace."+r.name]
	var all []string
	for _, m := range g.Members {
		all = append(all, m.MemberID)
	}
	return g.State, strings.Join(all, " "), g.Err
}
