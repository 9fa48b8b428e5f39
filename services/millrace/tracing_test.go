package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// collector takes spans as a collector does: OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu    sync.Mutex // guards the following
	spans []string   // "kind name trace parent"
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var got coltrace.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &got)
		}
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, from := range got.ResourceSpans {
			for _, scope := range from.ScopeSpans {
				for _, s := range scope.Spans {
					c.spans = append(c.spans, fmt.Sprintf("%v %s %x %x", s.Kind, s.Name, s.TraceId, s.ParentSpanId))
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// keeper is a sink that keeps the traceparent of what it was given.
type keeper struct{ got chan string }

func (k keeper) Claim(context.Context, consumers.TopicPartition) (int64, error) { return -1, nil }
func (k keeper) Release(context.Context, consumers.TopicPartition)              {}
func (k keeper) Process(_ context.Context, b consumers.Batch) error {
	for _, e := range b.Events {
		k.got <- e.Header("traceparent")
	}
	return nil
}

// ids is a registry of one schema.
type ids struct{ text string }

func (r ids) Register(context.Context, string, string) (int, error) { return 1, nil }
func (r ids) Schema(context.Context, int) (string, error)           { return r.text, nil }

// One trace goes from the writer through the relay to the consumer; what the writer does not sample makes no spans.
func TestATraceGoesFromTheWriterToTheConsumer(t *testing.T) {
	t.Parallel()
	to := newCollector(t)
	tracer, flush, err := Tracing{OTLP: to.URL + "/v1/traces", Sample: 1}.tracer(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	db := harness.Postgres(t)
	pool := db.Pool(t)
	if _, err := migrate.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	schema, err := schemas.Parse(`{"type": "record", "name": "Traced", "namespace": "test", "millrace.topic": "traced", "millrace.key": "key",
		"fields": [{"name": "key", "type": "string"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := schemas.NewCatalogue(schema)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := outbox.New(t.Context(), pool, catalogue); err != nil {
		t.Fatal(err)
	}
	kafka, registry, name := []kgo.Opt{kgo.SeedBrokers(broker.ListenAddrs()...)}, ids{schema.Text}, harness.Unique("out")
	published, err := relay.New(relay.Config{Outbox: name, Postgres: db.DSN, Kafka: kafka, Registry: registry, Tracer: tracer,
		Topics: map[string]relay.Topic{"traced": {Partitions: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	sink := keeper{got: make(chan string, 2)}
	consumer, err := consumers.New(consumers.Config{Name: name, Topics: []string{"traced"}, Kafka: kafka, Registry: registry, Tracer: tracer}, sink)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{published.Run, consumer.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	const sampled, not = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	for _, traceparent := range []string{sampled, not} {
		if _, err := pool.Exec(t.Context(), `select outbox.emit('test.Traced', 'k', '{"key": "k"}', jsonb_build_object('traceparent', $1::text))`, traceparent); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-sink.got:
			if got != traceparent {
				t.Errorf("the writer's %s arrived as %s", traceparent, got)
			}
		case <-time.After(time.Minute):
			t.Fatal("nothing arrives")
		}
	}
	cancel()
	running.Wait()
	flush()
	to.mu.Lock()
	defer to.mu.Unlock()
	slices.Sort(to.spans)
	const in = " 4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7"
	want := "SPAN_KIND_CONSUMER process traced" + in + "\nSPAN_KIND_PRODUCER send traced" + in
	if got := strings.Join(to.spans, "\n"); got != want {
		t.Errorf("spans\n%s\nwant\n%s", got, want)
	}
}

// Nothing is traced unless the configuration says where spans go, whatever the environment says to other programs.
func TestNothingIsTracedUnlessConfigured(t *testing.T) {
	to := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", to.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", to.URL+"/v1/traces")
	var c Config
	if err := c.validateTracing(); err != nil {
		t.Fatal(err)
	}
	tracer, flush, err := c.Tracing.tracer(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil || tracer != nil {
		t.Fatalf("a tracer that nobody configured: %v %v", tracer, err)
	}
	flush()
}
