package fold_test

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

const benchSchema = `{"type":"record","name":"OrderPlaced","namespace":"bench","millrace.topic":"orders","fields":[
	{"name":"order_id","type":"string"},{"name":"customer_id","type":"string"},{"name":"status","type":{"type":"enum","name":"Status","symbols":["placed","paid","shipped"]}},
	{"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},{"name":"currency","type":"string"},{"name":"quantity","type":"int"},
	{"name":"placed_at","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"city","type":"string"},{"name":"zip","type":["null","string"]},
	{"name":"weight","type":"double"},{"name":"due","type":["null",{"type":"int","logicalType":"date"}]},{"name":"note","type":["null","string"]}]}`

const benchAll = `
entity: order
topic: orders
on:
  bench.OrderPlaced: {set: {customer_id: event.customer_id, status: event.status, total: event.total, currency: event.currency, quantity: event.quantity,
    placed_at: event.placed_at, city: event.city, zip: event.zip, weight: event.weight, due: event.due, note: event.note, order_id: event.order_id}}
`

const benchThree = `
entity: order
topic: orders
on:
  bench.OrderPlaced: {set: {status: event.status, total: event.total, placed_at: event.placed_at}}
`

type benchRegistry struct{}

func (benchRegistry) Schema(context.Context, int) (string, error) { return benchSchema, nil }

// nowhere is a sink that keeps nothing.
type nowhere struct{ fold.Sink }

func (nowhere) Claim(context.Context, consumers.TopicPartition) (fold.Claim, error) {
	return fold.Claim{Epoch: 1, Next: -1}, nil
}

func (nowhere) Load(context.Context, string, []string) (map[string]fold.Stored, error) {
	return nil, nil
}

func (nowhere) Commit(context.Context, fold.Commit) error { return nil }

func (nowhere) Send(context.Context, []consumers.DeadLetter) error { return nil }

// benchRecords are records of 12 fields over 198,620 keys at random, with the relay's headers.
func benchRecords(b *testing.B, n int) []*kgo.Record {
	b.Helper()
	codec, err := avro.New(benchSchema)
	if err != nil {
		b.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	out := make([]*kgo.Record, n)
	for i := range out {
		key := fmt.Sprintf("o-%09d", rnd.IntN(198_620))
		value, err := codec.AppendEncode(avro.AppendFrame(nil, 1), map[string]any{"order_id": key, "customer_id": fmt.Sprintf("c-%07d", rnd.IntN(50_000)),
			"status": "paid", "total": big.NewRat(rnd.Int64N(1e6), 100), "currency": "EUR", "quantity": rnd.IntN(500), "placed_at": time.UnixMicro(1.7e15 + rnd.Int64N(1e12)),
			"city": "Ulm", "zip": "89073", "weight": rnd.Float64(), "due": "2026-05-04", "note": "please ring twice"})
		if err != nil {
			b.Fatal(err)
		}
		header := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
		out[i] = &kgo.Record{Topic: "orders", Offset: int64(i), Key: []byte(key), Value: value, Timestamp: time.UnixMilli(1.7e12), Headers: []kgo.RecordHeader{
			header("ce_id", fmt.Sprintf("6ba7b810-9dad-11d1-80b4-%012x", i)), header("ce_type", "bench.OrderPlaced"), header("ce_source", "/outbox/bench"),
			header("ce_time", "2026-05-01T10:20:30.123456Z"), header("millrace-seq", fmt.Sprint(i+1))}}
	}
	return out
}

// BenchmarkEvent decodes and folds batches of 5,000 events, without a store. One operation is one event.
func BenchmarkEvent(b *testing.B) {
	for name, text := range map[string]string{"twelve": benchAll, "three": benchThree} {
		b.Run(name, func(b *testing.B) { benchmarkEvent(b, text) })
	}
}

func benchmarkEvent(b *testing.B, declaration string) {
	schema, err := schemas.Parse(benchSchema)
	if err != nil {
		b.Fatal(err)
	}
	catalogue, err := schemas.NewCatalogue(schema)
	if err != nil {
		b.Fatal(err)
	}
	p, err := projection.Parse("bench.yaml", []byte(declaration), catalogue)
	if err != nil {
		b.Fatal(err)
	}
	f, err := fold.New(fold.Config{Sink: nowhere{}, DeadLetters: nowhere{}, Projections: []fold.Projection{p}})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := f.Claim(b.Context(), consumers.TopicPartition{Topic: "orders"}); err != nil {
		b.Fatal(err)
	}
	cfg := consumers.DecoderConfig{Registry: benchRegistry{}, Catalogue: catalogue, Reads: f.Reads}
	d, err := consumers.NewDecoder(cfg)
	if err != nil {
		b.Fatal(err)
	}
	const size = 5000
	records := benchRecords(b, 200_000)
	b.ReportAllocs()
	b.ResetTimer()
	var decoding, folding time.Duration
	for from := 0; from < b.N; from += size {
		n := min(size, b.N-from)
		batch := consumers.Batch{TopicPartition: consumers.TopicPartition{Topic: "orders"}, From: int64(from), Next: int64(from + n), Events: make([]consumers.Event, 0, n)}
		began := time.Now()
		for i := range n {
			ev, err := d.Decode(b.Context(), records[(from+i)%len(records)])
			if err != nil || ev.Err != nil {
				b.Fatal(err, ev.Err)
			}
			ev.Offset, ev.Seq = int64(from+i), int64(from+i+1)
			batch.Events = append(batch.Events, ev)
		}
		decoded := time.Now()
		if err := f.Process(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		decoding, folding = decoding+decoded.Sub(began), folding+time.Since(decoded)
	}
	b.ReportMetric(float64(decoding.Nanoseconds())/float64(b.N), "decode-ns/event")
	b.ReportMetric(float64(folding.Nanoseconds())/float64(b.N), "fold-ns/event")
}
