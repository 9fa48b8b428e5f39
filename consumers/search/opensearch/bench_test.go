package opensearch

import (
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/test/harness"
)

// rows is a projection of twelve columns, as an order has them.
type rows struct{ items }

func (rows) Entity() string { return "row" }

func (rows) Columns() []projection.Column {
	col := func(name string, k projection.Kind) projection.Column {
		return projection.Column{Name: name, Type: projection.Type{Kind: k}}
	}
	money := projection.Type{Kind: projection.Decimal, Precision: 12, Scale: 2}
	return []projection.Column{
		col("customer", projection.Text), col("status", projection.Text), col("carrier", projection.Text), col("note", projection.Text),
		col("lines", projection.Int), col("revision", projection.Int), {Name: "total", Type: money}, {Name: "tax", Type: money},
		col("placed_at", projection.Timestamp), col("shipped_at", projection.Timestamp), col("paid", projection.Bool), col("due", projection.Date),
	}
}

func (rows) SearchFields() projection.Search {
	return projection.Search{Keyword: []string{"customer", "status", "carrier"}}
}

func row(i int64) fold.Stored {
	when := time.UnixMicro(1_767_225_600_000_000 + i*1_234_567).UTC()
	return fold.Stored{Version: i + 1, EventID: fmt.Sprintf("0192f0c4-7b1a-7c3e-9d2b-%012d", i), Time: when, State: projection.State{Exists: true, Values: []any{
		fmt.Sprint("c-", i%5000), []string{"placed", "paid", "shipped"}[i%3], []string{"north", "south"}[i%2], fmt.Sprint("leave at the door of number ", i%97),
		i % 9, i % 4, big.NewRat(i%100_000, 100), big.NewRat(i%10_000, 100), when, when.Add(time.Hour), i%3 > 0, when.Truncate(24 * time.Hour),
	}}}
}

const (
	benchBatch   = 5000
	benchBatches = 24
)

// BenchmarkCommit writes the same rows through Commit and, as the ceiling, as ready-made bulk requests of 5,000 plain documents from
// memory, in turns, with one lane and with three. It reports documents a second and the share of the ceiling.
func BenchmarkCommit(b *testing.B) {
	server, err := harness.StartOpenSearch(harness.OpenSearchOptions{Optimised: true})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	bodies := plainBodies()
	batches := changeBatches()
	raw, ours := func(lanes int) float64 { return rawRate(b, server.URL, bodies, lanes) }, func(lanes int) float64 { return commitRate(b, server.URL, batches, lanes) }
	raw(3) // the server's code warms up
	ours(3)
	for _, lanes := range []int{1, 3} {
		b.Run(fmt.Sprint("lanes=", lanes), func(b *testing.B) {
			var ceiling, reached float64
			for b.Loop() {
				ceiling += raw(lanes)
				reached += ours(lanes)
			}
			b.ReportMetric(ceiling/float64(b.N), "ceiling-docs/s")
			b.ReportMetric(reached/float64(b.N), "docs/s")
			b.ReportMetric(reached/ceiling, "of-ceiling")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func changeBatches() [][]fold.Change {
	out := make([][]fold.Change, benchBatches)
	for i := range out {
		for j := range int64(benchBatch) {
			n := int64(i)*benchBatch + j
			out[i] = append(out[i], fold.Change{Key: fmt.Sprintf("o-%09d", n), Stored: row(n)})
		}
	}
	return out
}

// plainBodies are the rows alone: no version, no state.
func plainBodies() [][]byte {
	l, _ := newLayouts(names{prefix: "x", generation: 1}, []fold.Projection{rows{}})
	var out [][]byte
	for _, changes := range changeBatches() {
		var body []byte
		for _, c := range changes {
			body = append(body, `{"index":{"_id":`...)
			body = append(appendString(body, c.Key), "}}\n{\""+liveField+"\":true"...)
			body, _ = l["row"].appendColumns(body, c.Values)
			body = append(body, "}\n"...)
		}
		out = append(out, body)
	}
	return out
}

func benchSink(b *testing.B, url string) *Sink {
	b.Helper()
	// Nothing is refreshed while it is measured: what that costs is the same for both.
	return open(b, Config{URL: url, Prefix: unique(b, url), Projections: []fold.Projection{rows{}}, Logger: slog.New(slog.DiscardHandler), RefreshInterval: -1})
}

// rawRate is how many documents a second the server takes.
func rawRate(b *testing.B, url string, bodies [][]byte, lanes int) float64 {
	b.Helper()
	s := benchSink(b, url)
	defer s.Close()
	return perSecond(b, lanes, func(_, i int) error {
		_, err := s.client.send(context.Background(), http.MethodPost, path(s.layouts["row"].target)+"/_bulk?filter_path=errors", "application/x-ndjson", bodies[i], maxAnswer, nil)
		return err
	})
}

// commitRate is how many a second come through Commit.
func commitRate(b *testing.B, url string, batches [][]fold.Change, lanes int) float64 {
	b.Helper()
	s := benchSink(b, url)
	defer s.Close()
	next := make([]int64, lanes)
	for lane := range lanes {
		if _, err := s.Claim(context.Background(), consumers.TopicPartition{Topic: "rows", Partition: int32(lane)}); err != nil {
			b.Fatal(err)
		}
	}
	return perSecond(b, lanes, func(lane, i int) error {
		from := next[lane]
		next[lane] += benchBatch
		return s.Commit(context.Background(), fold.Commit{TopicPartition: consumers.TopicPartition{Topic: "rows", Partition: int32(lane)}, Epoch: 1,
			From: from, Next: from + benchBatch, Changes: map[string][]fold.Change{"row": batches[i]}})
	})
}

func perSecond(b *testing.B, lanes int, one func(lane, i int) error) float64 {
	b.Helper()
	var taken atomic.Int64
	var working sync.WaitGroup
	began := time.Now()
	for lane := range lanes {
		working.Go(func() {
			for {
				i := int(taken.Add(1)) - 1
				if i >= benchBatches {
					return
				}
				if err := one(lane, i); err != nil {
					b.Error(strconv.Itoa(i), err)
					return
				}
			}
		})
	}
	working.Wait()
	return benchBatches * benchBatch / time.Since(began).Seconds()
}

// BenchmarkEncode is the client's own part of a Commit.
func BenchmarkEncode(b *testing.B) {
	l, err := newLayouts(names{prefix: "x", generation: 1}, []fold.Projection{rows{}})
	if err != nil {
		b.Fatal(err)
	}
	changes := changeBatches()[0]
	var body []byte
	b.ReportAllocs()
	for b.Loop() {
		body = body[:0]
		for i := range changes {
			if body, err = l["row"].appendItem(body, &changes[i], guard{versions: newer}); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.SetBytes(int64(len(body)))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchBatch, "ns/doc")
}

// BenchmarkLoad gets states of which all are there.
func BenchmarkLoad(b *testing.B) {
	server, err := harness.StartOpenSearch(harness.OpenSearchOptions{Optimised: true})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	s := benchSink(b, server.URL)
	defer s.Close()
	if _, err := s.Claim(context.Background(), consumers.TopicPartition{Topic: "rows"}); err != nil {
		b.Fatal(err)
	}
	changes := changeBatches()[0]
	if err := s.Commit(context.Background(), fold.Commit{TopicPartition: consumers.TopicPartition{Topic: "rows"}, Epoch: 1, From: 0, Next: 1,
		Changes: map[string][]fold.Change{"row": changes}}); err != nil {
		b.Fatal(err)
	}
	refresh(b, s)
	ids := make([]string, len(changes))
	for i := range changes {
		ids[i] = changes[i].Key
	}
	for b.Loop() {
		if got, err := s.Load(context.Background(), "row", ids); err != nil || len(got) != len(ids) {
			b.Fatal(len(got), err)
		}
	}
	b.ReportMetric(float64(b.N)*benchBatch/b.Elapsed().Seconds(), "states/s")
}
