//go:build cgo

package duckdb

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/test/harness"
)

// BenchmarkPoison folds the same events with and without a bad one in each 10,000, whose keys' later events are put aside as well. The dead
// letters go to a real Kafka. One operation is one event. Run the two side by side, several times:
//
//	go test -bench Poison -benchtime 400000x -count 5 ./consumers/warehouse/duckdb
func BenchmarkPoison(b *testing.B) {
	for _, every := range []int{0, 10_000} {
		name := "none"
		if every > 0 {
			name = fmt.Sprintf("one in %d", every)
		}
		b.Run(name, func(b *testing.B) { benchmarkPoison(b, every) })
	}
}

// fragile is wide, and cannot fold an event without a customer.
type fragile struct{ declared }

var errNobody = errors.New("nobody bought this")

func (f fragile) Fold(_ projection.State, ev *consumers.Event) (projection.State, error) {
	values := make([]any, len(f.columns))
	for i, c := range f.columns {
		values[i] = ev.Fields()[c.Name]
	}
	if values[0] == nil {
		return projection.State{}, errNobody
	}
	return projection.State{Exists: true, Values: values}, nil
}

func benchmarkPoison(b *testing.B, every int) {
	p := fragile{wide}
	w, err := Open(Config{Path: filepath.Join(b.TempDir(), "wh.duckdb"), Projections: []fold.Projection{p}})
	if err != nil {
		b.Fatal(err)
	}
	name := harness.Unique("bench")
	broker := harness.Kafka(b)
	broker.DeleteAtEnd(b, consumers.DeadLetterTopic(name))
	letters, err := consumers.NewDeadLetterProducer(name, kgo.SeedBrokers(broker.Brokers...))
	if err != nil {
		b.Fatal(err)
	}
	f, err := fold.New(fold.Config{Name: name, Sink: w, Projections: []fold.Projection{p}, DeadLetters: letters})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := errors.Join(f.Close(), w.Close()); err != nil {
			b.Error(err)
		}
	}()
	tp := consumers.TopicPartition{Topic: wide.topic}
	if _, err := f.Claim(b.Context(), tp); err != nil {
		b.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	b.ResetTimer()
	for from := 0; from < b.N; from += 5_000 {
		b.StopTimer()
		batch := fragileBatch(rnd, tp, from, min(5_000, b.N-from), every)
		b.StartTimer()
		if err := f.Process(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func fragileBatch(rnd *rand.Rand, tp consumers.TopicPartition, from, n, every int) consumers.Batch {
	batch := consumers.Batch{TopicPartition: tp, From: int64(from), Next: int64(from + n)}
	for i := range n {
		key, offset := fmt.Sprintf("s-%06d", rnd.IntN(100_000)), int64(from+i)
		fields := map[string]any{"customer": "c-" + key, "status": "placed", "total": big.NewRat(offset, 100), "quantity": int64(3),
			"placed": noon.Add(time.Duration(offset) * time.Second), "paid": true, "city": "Ulm", "zip": "89073", "weight": 1.5,
			"due": noon.Truncate(24 * time.Hour), "note": "please ring twice", "items": int64(2)}
		if every > 0 && (from+i)%every == every/2 {
			delete(fields, "customer")
		}
		batch.Events = append(batch.Events, consumers.Event{TopicPartition: tp, Offset: offset, Key: key, Type: "bench.Sold",
			ID: fmt.Sprintf("%032d", offset), Seq: offset + 1, Time: noon, Payload: make([]byte, 120), Value: make([]byte, 125)}.
			WithFields(fields).WithHeaders(map[string]string{"ce_type": "bench.Sold", "millrace-seq": "1"}))
	}
	return batch
}
