//go:build cgo

package duckdb

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

var wide = declared{entity: "sale", topic: "bench.sales", digest: "bench", columns: []projection.Column{
	{Name: "customer", Type: projection.Type{Kind: projection.Text}}, {Name: "status", Type: projection.Type{Kind: projection.Text}},
	{Name: "total", Type: projection.Type{Kind: projection.Decimal, Precision: 12, Scale: 2}}, {Name: "quantity", Type: projection.Type{Kind: projection.Int}},
	{Name: "placed", Type: projection.Type{Kind: projection.Timestamp}}, {Name: "paid", Type: projection.Type{Kind: projection.Bool}},
	{Name: "city", Type: projection.Type{Kind: projection.Text}}, {Name: "zip", Type: projection.Type{Kind: projection.Text}},
	{Name: "weight", Type: projection.Type{Kind: projection.Float}}, {Name: "due", Type: projection.Type{Kind: projection.Date}},
	{Name: "note", Type: projection.Type{Kind: projection.Text}}, {Name: "items", Type: projection.Type{Kind: projection.Int}},
}}

// BenchmarkCommit drains events of 12 fields over 20,000 keys, at random, into bronze and silver; each batch loads its states first,
// as folding does. One operation is one event.
func BenchmarkCommit(b *testing.B) {
	for _, lanes := range []int{1, 4} {
		for _, size := range []int{5_000, 50_000} {
			b.Run(fmt.Sprintf("lanes=%d/batch=%d", lanes, size), func(b *testing.B) { benchmarkCommit(b, lanes, size) })
		}
	}
}

func benchmarkCommit(b *testing.B, lanes, size int) {
	w, err := Open(Config{Path: filepath.Join(b.TempDir(), "wh.duckdb"), Projections: []fold.Projection{wide}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			b.Error(err)
		}
	}()
	b.ResetTimer()
	errs := make(chan error, lanes)
	for lane := range lanes {
		go func() { errs <- drain(w, int32(lane), b.N/lanes+1, size) }()
	}
	for range lanes {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func drain(w *Warehouse, partition int32, events, size int) error {
	ctx, tp := context.Background(), consumers.TopicPartition{Topic: wide.topic, Partition: partition}
	c, err := w.Claim(ctx, tp)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(1, uint64(partition)))
	for from := 0; from < events; from += size {
		batch := sales(rnd, tp, c.Epoch, from, min(size, events-from))
		keys := make([]string, len(batch.Changes["sale"]))
		for i, ch := range batch.Changes["sale"] {
			keys[i] = ch.Key
		}
		if _, err := w.Load(ctx, "sale", keys); err != nil {
			return err
		}
		if err := w.Commit(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func sales(rnd *rand.Rand, tp consumers.TopicPartition, epoch int64, from, n int) fold.Commit {
	c := fold.Commit{TopicPartition: tp, Epoch: epoch, From: int64(from), Next: int64(from + n)}
	last := map[string]fold.Change{}
	for i := range n {
		key, offset := fmt.Sprintf("s-%d-%06d", tp.Partition, rnd.IntN(20_000)), int64(from+i)
		values := []any{"c-" + key, "placed", big.NewRat(offset, 100), int64(3), noon.Add(time.Duration(offset) * time.Second), true,
			"Ulm", "89073", 1.5, noon.Truncate(24 * time.Hour), "please ring twice", int64(2)}
		fields := make(map[string]any, len(values))
		for i, col := range wide.columns {
			fields[col.Name] = values[i]
		}
		c.Events = append(c.Events, consumers.Event{TopicPartition: tp, Offset: offset, Key: key, Type: "bench.Sold", ID: fmt.Sprintf("%032d", offset), Seq: offset + 1, Time: noon, Payload: make([]byte, 120)}.
			WithFields(fields).WithHeaders(map[string]string{"ce_type": "bench.Sold", "millrace-seq": "1"}))
		last[key] = fold.Change{Key: key, Stored: fold.Stored{State: projection.State{Exists: true, Values: values}, Version: offset + 1, Time: noon}}
	}
	changes := slices.SortedFunc(maps.Values(last), func(a, b fold.Change) int { return strings.Compare(a.Key, b.Key) })
	c.Changes = map[string][]fold.Change{"sale": changes}
	return c
}
