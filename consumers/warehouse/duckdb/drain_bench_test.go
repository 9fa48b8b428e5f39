//go:build cgo

package duckdb

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/test/harness"
)

const drainSchema = `{"type":"record","name":"OrderPlaced","namespace":"bench","fields":[
	{"name":"order_id","type":"string"},{"name":"customer_id","type":"string"},{"name":"status","type":{"type":"enum","name":"Status","symbols":["placed","paid","shipped"]}},
	{"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},{"name":"currency","type":"string"},{"name":"quantity","type":"int"},
	{"name":"placed_at","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"city","type":"string"},{"name":"zip","type":["null","string"]},
	{"name":"weight","type":"double"},{"name":"due","type":["null",{"type":"int","logicalType":"date"}]},{"name":"note","type":["null","string"]}]}`

const drainProjection = `
entity: order
topic: %q
on:
  bench.OrderPlaced: {set: {customer_id: event.customer_id, status: event.status, total: event.total, currency: event.currency, quantity: event.quantity,
    placed_at: event.placed_at, city: event.city, zip: event.zip, weight: event.weight, due: event.due, note: event.note, order_id: event.order_id}}
`

type drainRegistry struct{}

func (drainRegistry) Schema(context.Context, int) (string, error) { return drainSchema, nil }

// BenchmarkDrain takes events of 12 fields over 198,620 keys at random from a real topic into bronze and silver, with everything that
// stands between. One operation is one event; writing the topic does not count.
func BenchmarkDrain(b *testing.B) {
	if os.Getenv("MILLRACE_TEST_KAFKA") == "" {
		b.Skip("a broker is measured against that runs already: set MILLRACE_TEST_KAFKA to its address")
	}
	k := harness.Kafka(b)
	topic := k.NewTopic(b, 1)
	fill(b, k.Brokers, topic)
	schema, err := schemas.Parse(drainSchema)
	if err != nil {
		b.Fatal(err)
	}
	catalogue, err := schemas.NewCatalogue(schema)
	if err != nil {
		b.Fatal(err)
	}
	p, err := projection.Parse("bench.yaml", fmt.Appendf(nil, drainProjection, topic), catalogue)
	if err != nil {
		b.Fatal(err)
	}
	w, err := Open(Config{Path: filepath.Join(b.TempDir(), "wh.duckdb"), Projections: []fold.Projection{p}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			b.Error(err)
		}
	}()
	letters, err := consumers.NewDeadLetterProducer(harness.Unique("bench"), kgo.SeedBrokers(k.Brokers...))
	if err != nil {
		b.Fatal(err)
	}
	f, err := fold.New(fold.Config{Sink: w, Projections: []fold.Projection{p}, DeadLetters: letters})
	if err != nil {
		b.Fatal(err)
	}
	c, err := consumers.New(consumers.Config{Name: harness.Unique("bench"), Topics: []string{topic}, Kafka: []kgo.Opt{kgo.SeedBrokers(k.Brokers...)},
		Registry: drainRegistry{}, Catalogue: catalogue, BatchEvents: 20_000, BatchBytes: 16 << 20, LaneRecords: 40_000, LaneBytes: 32 << 20}, f)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { done <- c.Run(ctx) }()
	waitFor(b, w, topic, int64(b.N), done)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	stop()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		b.Fatal(err)
	}
}

func waitFor(b *testing.B, w *Warehouse, topic string, end int64, ended <-chan error) {
	b.Helper()
	for {
		all, err := w.Positions(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if all[consumers.TopicPartition{Topic: topic}] >= end {
			return
		}
		select {
		case err := <-ended:
			b.Fatalf("the consumer ended before offset %d: %v", end, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// fill writes b.N events.
func fill(b *testing.B, brokers []string, topic string) {
	b.Helper()
	codec, err := avro.New(drainSchema)
	if err != nil {
		b.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(50_000), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	var refused kgo.FirstErrPromise
	rnd := rand.New(rand.NewPCG(1, 2))
	header := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	for i := range b.N {
		key := fmt.Sprintf("o-%09d", rnd.IntN(198_620))
		value, err := codec.AppendEncode(avro.AppendFrame(nil, 1), map[string]any{"order_id": key, "customer_id": fmt.Sprintf("c-%07d", rnd.IntN(50_000)),
			"status": "paid", "total": big.NewRat(rnd.Int64N(1e6), 100), "currency": "EUR", "quantity": rnd.IntN(500), "placed_at": time.UnixMicro(1.7e15 + rnd.Int64N(1e12)),
			"city": "Ulm", "zip": "89073", "weight": rnd.Float64(), "due": "2026-05-04", "note": "please ring twice"})
		if err != nil {
			b.Fatal(err)
		}
		cl.Produce(b.Context(), &kgo.Record{Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
			header("ce_id", fmt.Sprintf("6ba7b810-9dad-11d1-80b4-%012x", i)), header("ce_type", "bench.OrderPlaced"), header("ce_source", "/outbox/bench"),
			header("ce_time", "2026-05-01T10:20:30.123456Z"), header("millrace-seq", fmt.Sprint(i+1))}}, refused.Promise())
	}
	// A record that the broker did not take would be waited for without end.
	if err := errors.Join(cl.Flush(b.Context()), refused.Err()); err != nil {
		b.Fatal(err)
	}
}
