package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const openedSchema = `{"type":"record","name":"Opened","namespace":"bank","fields":[{"name":"owner","type":"string"},{"name":"amount","type":"long"}]}`

// oneSchema is a registry of one schema.
type oneSchema struct{}

func (oneSchema) Schema(_ context.Context, id int) (string, error) {
	if id != 1 {
		return "", registry.ErrNotFound
	}
	return openedSchema, nil
}

// bank is a topic of accounts, and sinks of it.
type bank struct {
	t     *testing.T
	kafka []kgo.Opt
	topic string
	name  string
	cl    *kgo.Client
	seq   int
}

func newBank(t *testing.T) *bank {
	t.Helper()
	broker := harness.Kafka(t)
	b := &bank{t: t, kafka: []kgo.Opt{kgo.SeedBrokers(broker.Brokers...)}, topic: broker.NewTopic(t, 3), name: harness.Unique("bank")}
	cl, err := kgo.NewClient(append(b.kafka, kgo.MetadataMinAge(100*time.Millisecond), kgo.UnknownTopicRetries(100))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	b.cl = cl
	return b
}

// declare compiles a declaration that sets owner and what else is said.
func (b *bank) declare(more string) []*projection.Projection {
	b.t.Helper()
	text := fmt.Sprintf("entity: account\ntopic: %s\non:\n  bank.Opened: {set: {owner: event.owner%s}}\n", b.topic, more)
	files := fstest.MapFS{"opened.avsc": {Data: []byte(openedSchema)}, "account.yaml": {Data: []byte(text)}}
	all, err := projection.LoadFS(files, b.catalogue(), "*.yaml")
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

func (b *bank) catalogue() *schemas.Catalogue {
	b.t.Helper()
	catalogue, err := schemas.LoadFS(fstest.MapFS{"opened.avsc": {Data: []byte(openedSchema)}})
	if err != nil {
		b.t.Fatal(err)
	}
	return catalogue
}

// open writes events of n accounts.
func (b *bank) open(n int) {
	b.t.Helper()
	codec, err := avro.New(openedSchema)
	if err != nil {
		b.t.Fatal(err)
	}
	for range n {
		b.seq++
		value, err := codec.AppendEncode(avro.AppendFrame(nil, 1), map[string]any{"owner": fmt.Sprintf("owner-%d", b.seq), "amount": int64(b.seq)})
		if err != nil {
			b.t.Fatal(err)
		}
		b.cl.Produce(b.t.Context(), &kgo.Record{Topic: b.topic, Key: fmt.Appendf(nil, "account-%d", b.seq%50), Value: value, Headers: []kgo.RecordHeader{
			{Key: "ce_id", Value: fmt.Appendf(nil, "event-%d", b.seq)}, {Key: "millrace-seq", Value: []byte(strconv.Itoa(b.seq))},
		}}, nil)
	}
	if err := b.cl.Flush(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// runningSink is a sink under way.
type runningSink struct {
	*Sink
	t    *testing.T
	stop context.CancelFunc
	done chan error
	once sync.Once
}

func (b *bank) run(cfg Config, projections []*projection.Projection) *runningSink {
	b.t.Helper()
	cfg.Name = b.name
	s, err := New(cfg, Parts{Kafka: b.kafka, Registry: oneSchema{}, Catalogue: b.catalogue(), Projections: projections,
		Logger: slog.New(slog.NewTextHandler(b.t.Output(), nil)), Metrics: prometheus.NewRegistry()})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &runningSink{Sink: s, t: b.t, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	b.t.Cleanup(r.end)
	return r
}

func (r *runningSink) end() {
	r.t.Helper()
	r.once.Do(func() {
		r.stop()
		select {
		case err := <-r.done:
			if err != nil {
				r.t.Errorf("the sink ended with %v", err)
			}
		case <-time.After(time.Minute):
			r.t.Error("the sink does not stop")
		}
	})
}

// found is how many accounts the process finds.
func (r *runningSink) found() (int, error) {
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/search?entity=account&limit=100", nil))
	if w.Code != http.StatusOK {
		return 0, fmt.Errorf("%d %s", w.Code, w.Body)
	}
	var answer struct{ Total int }
	err := json.Unmarshal(w.Body.Bytes(), &answer)
	return answer.Total, err
}

func (b *bank) ask(action rebuild.Action, o *rebuild.Options) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	a, err := rebuild.Open(b.name, b.kafka...).Ask(ctx, rebuild.Request{Action: action, Options: o, By: "test"})
	if err != nil || !a.OK {
		b.t.Fatalf("%s: %+v %v", action, a, err)
	}
}

// until waits for a record.
func (b *bank) until(what string, is func(rebuild.Record) bool) rebuild.Record {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	defer cancel()
	found := errors.New("found")
	var last rebuild.Record
	err := rebuild.Open(b.name, b.kafka...).Follow(ctx, func(rec rebuild.Record) error {
		if last = rec; is(rec) {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		text, _ := json.Marshal(last)
		b.t.Fatalf("waiting until %s: %v; the record is %s", what, err, text)
	}
	return last
}

func (b *bank) inState(s rebuild.State) rebuild.Record {
	b.t.Helper()
	return b.until(string(s), func(rec rebuild.Record) bool { return rec.Rebuild != nil && rec.Rebuild.State == s })
}

// Promise 8: a sink is rebuilt while the old generation serves, swapped when it is proved equal, and rolled back.
func TestPromise8_ASinkIsRebuiltAndRolledBack(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.open(500)
	s := b.run(Config{Kind: "bleve", Path: t.TempDir() + "/search"}, b.declare(""))
	b.until("the first generation is recorded", func(rec rebuild.Record) bool { return rec.Generations[1] != nil })
	b.ask(rebuild.Start, nil)
	rec := b.inState(rebuild.Soaking)
	if rec.Serving != 2 || rec.Rebuild.Comparison == nil || !rec.Rebuild.Comparison.Equal {
		t.Errorf("%+v", rec.Rebuild)
	}
	b.open(100)
	b.ask(rebuild.Rollback, nil)
	rec = b.until("it is over", func(rec rebuild.Record) bool { return rec.Rebuild == nil && rec.Last != nil })
	if rec.Serving != 1 || rec.Last.Outcome != "rolled-back" || len(rec.Generations) != 1 {
		t.Errorf("%+v", rec)
	}
	if n, err := s.found(); err != nil || n != 50 {
		t.Errorf("%d accounts, %v", n, err)
	}
}
