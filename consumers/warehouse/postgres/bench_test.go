package postgres

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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

const benchBatch, benchKeys = 5000, 200_000

// BenchmarkSilver stores states of 12 fields over 200,000 keys at random, 5,000 a batch; one operation is one state. "ceiling" is the
// same rows, made before, in the same tables by the same statements: COPY, upsert, COMMIT, and nothing else. The states are made
// before in all of them.
func BenchmarkSilver(b *testing.B) {
	for _, lanes := range []int{1, 3} {
		b.Run(fmt.Sprintf("commit/lanes=%d", lanes), func(b *testing.B) { benchmark(b, lanes, BronzeOff, false, (*bencher).commit) })
		b.Run(fmt.Sprintf("load+commit/lanes=%d", lanes), func(b *testing.B) { benchmark(b, lanes, BronzeOff, true, (*bencher).commit) })
		b.Run(fmt.Sprintf("ceiling/lanes=%d", lanes), func(b *testing.B) { benchmark(b, lanes, BronzeOff, false, (*bencher).ceiling) })
	}
}

// BenchmarkBronze appends events of 120 bytes and two headers.
func BenchmarkBronze(b *testing.B) {
	for _, kind := range []Bronze{BronzePayload, BronzeJSON} {
		b.Run(string(kind), func(b *testing.B) { benchmark(b, 1, kind, false, (*bencher).commit) })
	}
}

type bencher struct {
	w       *Warehouse
	conn    *pgx.Conn
	tp      consumers.TopicPartition
	epoch   int64
	batches []fold.Commit
	rows    [][]byte // of each batch, as COPY has them
	load    bool
}

func benchmark(b *testing.B, lanes int, kind Bronze, load bool, do func(*bencher, int) error) {
	url := server(b)
	w := openAt(b, Config{URL: url, Projections: []fold.Projection{wide}, Bronze: kind})
	all := make([]*bencher, lanes)
	for i := range all {
		all[i] = newBencher(b, w, url, int32(i), kind, load)
	}
	rounds := b.N/(lanes*benchBatch) + 1
	b.ResetTimer()
	errs := make(chan error, lanes)
	for _, one := range all {
		go func() {
			var err error
			for i := 0; i < rounds && err == nil; i++ {
				err = do(one, i)
			}
			errs <- err
		}()
	}
	for range all {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rounds*lanes*benchBatch)/b.Elapsed().Seconds(), "rows/s")
}

func newBencher(b *testing.B, w *Warehouse, url string, partition int32, kind Bronze, load bool) *bencher {
	one := &bencher{w: w, conn: connect(b, url), tp: consumers.TopicPartition{Topic: wide.topic, Partition: partition}, load: load}
	one.epoch = claim(b, w, one.tp).Epoch
	rnd := rand.New(rand.NewPCG(1, uint64(partition)))
	t := w.current().tables["sale"]
	for range 12 {
		c := sales(rnd, one.tp, kind)
		rows := append([]byte{}, copyHead...)
		for i := range c.Changes["sale"] {
			var err error
			if rows, err = t.appendRow(rows, &c.Changes["sale"][i]); err != nil {
				b.Fatal(err)
			}
		}
		one.batches, one.rows = append(one.batches, c), append(one.rows, append(rows, copyTail...))
	}
	if err := w.prepareLane(context.Background(), one.conn); err != nil {
		b.Fatal(err)
	}
	return one
}

// commit stores batch i; its versions are raised in place.
func (o *bencher) commit(i int) error {
	c := o.batches[i%len(o.batches)]
	c.Epoch, c.From, c.Next = o.epoch, int64(i)*benchBatch, int64(i+1)*benchBatch
	changes := c.Changes["sale"]
	keys := make([]string, 0, len(changes))
	for j := range changes {
		changes[j].Version = c.From + int64(j) + 1
		if o.load {
			keys = append(keys, changes[j].Key)
		}
	}
	if o.load {
		if _, err := o.w.Load(context.Background(), "sale", keys); err != nil {
			return err
		}
	}
	return o.w.Commit(context.Background(), c)
}

// ceiling stores the rows of batch i without anything around it.
func (o *bencher) ceiling(i int) error {
	pg, rows := o.conn.PgConn(), o.rows[i%len(o.rows)]
	for at, j := len(copyHead), 0; j < len(o.batches[i%len(o.batches)].Changes["sale"]); j++ { // the version is the second field
		keyLen := int(be.Uint32(rows[at+2:]))
		version := at + 2 + 4 + keyLen + 4
		be.PutUint64(rows[version:], uint64(i*benchBatch+j+1))
		at += 2
		for range len(headNames) + 2 + len(wide.columns) {
			if n := int32(be.Uint32(rows[at:])); n > 0 {
				at += int(n)
			}
			at += 4
		}
	}
	ctx := context.Background()
	t := o.w.current().tables["sale"]
	if _, err := pg.Exec(ctx, "BEGIN").ReadAll(); err != nil {
		return err
	}
	if _, err := pg.CopyFrom(ctx, bytes.NewReader(rows), t.copyStatement()); err != nil {
		return err
	}
	if err := resultOf(pg.ExecPrepared(ctx, stUpsert+"sale", nil, nil, nil)); err != nil {
		return err
	}
	_, err := pg.Exec(ctx, "COMMIT").ReadAll()
	return err
}

func resultOf(rr *pgconn.ResultReader) error {
	_, err := rr.Close()
	return err
}

// sales is a batch of states of keys at random, each once.
func sales(rnd *rand.Rand, tp consumers.TopicPartition, kind Bronze) fold.Commit {
	c := fold.Commit{TopicPartition: tp, Changes: map[string][]fold.Change{}}
	seen := map[int]bool{}
	for i := 0; len(seen) < benchBatch; i++ {
		n := rnd.IntN(benchKeys)
		if seen[n] {
			continue
		}
		seen[n] = true
		day := time.Date(2026, 1, 1+rnd.IntN(365), 0, 0, 0, 0, time.UTC)
		values := []any{fmt.Sprintf("c-%06d", rnd.IntN(1e6)), "shipped", big.NewRat(rnd.Int64N(1e6), 100), rnd.Int64N(100), noon, true, "Springfield", "12345", rnd.Float64(), day,
			"a note of some thirty characters", rnd.Int64N(10)}
		c.Changes["sale"] = append(c.Changes["sale"], fold.Change{Key: fmt.Sprintf("s-%d-%06d", tp.Partition, n),
			Stored: fold.Stored{State: projection.State{Exists: true, Values: values}, EventID: "0190b8a0-7e1c-7cc2-9f4e-3a1b2c3d4e5f", Time: noon}})
		if kind == BronzeOff {
			continue
		}
		fields := map[string]any{}
		for j, col := range wide.columns {
			fields[col.Name] = values[j]
		}
		ev := consumers.Event{TopicPartition: tp, Offset: int64(i), Key: "s", Type: "bench.Sold", ID: "0190b8a0-7e1c-7cc2-9f4e-3a1b2c3d4e5f", Seq: int64(i), Time: noon, Payload: make([]byte, 120)}
		c.Events = append(c.Events, ev.WithFields(fields).WithHeaders(map[string]string{"ce_type": "bench.Sold", "millrace-seq": "1"}))
	}
	if kind != BronzeOff {
		c.Changes = nil
	}
	slices.SortFunc(c.Changes["sale"], func(a, b fold.Change) int { return cmp.Compare(a.Key, b.Key) })
	return c
}
