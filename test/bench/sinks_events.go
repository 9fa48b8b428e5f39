package bench

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas/avro"
)

//go:embed schemas/SaleMade.avsc
var saleSchema string

// saleKeys is how many keys the sales have. Which one an event has is as good as random: the worst case for folding.
const saleKeys = 198_620

// sale is what an event carries beside its key and its number.
type sale struct {
	customer, status string
	cents            int64
	currency         string
	quantity         int64
	placed           time.Time
	city, zip        string
	weight           float64
	note             string
}

func (s *sale) total() *big.Rat { return big.NewRat(s.cents, 100) }

// saleMaker makes events: a few thousand sales are encoded once, and only the key and the number are new in each event.
type saleMaker struct {
	sales []sale
	tails [][]byte // what follows the first two fields
}

func newSaleMaker() (*saleMaker, error) {
	codec, err := avro.New(saleSchema)
	if err != nil {
		return nil, fmt.Errorf("compile the schema of sales: %w", err)
	}
	m := &saleMaker{sales: make([]sale, variants), tails: make([][]byte, variants)}
	r := rand.New(rand.NewPCG(1, 2)) // the same events in every run
	for i := range m.sales {
		s := randomSale(r)
		whole, err := codec.AppendEncode(nil, map[string]any{
			"sale_id": "", "n": int64(0), "customer_id": s.customer, "status": s.status, "total": s.total(), "currency": s.currency,
			"quantity": s.quantity, "placed_at": s.placed, "city": s.city, "zip": s.zip, "weight": s.weight, "note": s.note,
		})
		if err != nil {
			return nil, fmt.Errorf("encode a sale: %w", err)
		}
		m.sales[i], m.tails[i] = s, whole[2:] // no key and 0 are a byte each
	}
	return m, nil
}

func randomSale(r *rand.Rand) sale {
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	return sale{
		customer: fmt.Sprintf("c-%07d", r.IntN(50_000)), status: pick("placed", "paid", "shipped"), cents: r.Int64N(1e6), currency: pick("EUR", "USD", "CHF"),
		quantity: r.Int64N(500), placed: time.UnixMicro(1.7e15 + r.Int64N(1e12)).UTC(), city: pick("Ulm", "Springfield", "Aarhus", "Porto"),
		zip: fmt.Sprintf("%05d", r.IntN(100_000)), weight: r.Float64(), note: pick("please ring twice", "leave at the door", "second floor, call before"),
	}
}

// saleKey is the number of the key of event n.
func saleKey(n int64) int64 {
	x := (uint64(n) + 1) * 0x9e3779b97f4a7c15 // splitmix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return int64((x ^ x>>31) % saleKeys)
}

func saleKeyText(key int64) string {
	text := strconv.FormatInt(key, 10)
	return "s-000000000"[:11-len(text)] + text
}

// of is what event n carries.
func (m *saleMaker) of(n int64) *sale { return &m.sales[n%variants] }

// append appends the payload of event n.
func (m *saleMaker) append(dst []byte, key string, n int64) []byte {
	dst = binary.AppendVarint(dst, int64(len(key)))
	dst = append(dst, key...)
	dst = binary.AppendVarint(dst, n)
	return append(dst, m.tails[n%variants]...)
}

// latest are the numbers of the last event of each key below n, -1 for a key without any, and how many keys have one.
func latest(n int64) (last []int64, keys, sum int64) {
	last = make([]int64, saleKeys)
	for i := range last {
		last[i] = -1
	}
	for i := range n {
		last[saleKey(i)] = i
	}
	for _, at := range last {
		if at >= 0 {
			keys, sum = keys+1, sum+at
		}
	}
	return last, keys, sum
}

// batches cuts the events below n into what each of so many lanes writes at a time: the number of the last event of each key, in order
// of key.
func batches(n int64, lanes int, size int) [][][]int64 {
	out := make([][][]int64, lanes)
	open := make([]map[int64]int64, lanes)
	seen := make([]int, lanes)
	flush := func(lane int) {
		batch := make([]int64, 0, len(open[lane]))
		for _, at := range open[lane] {
			batch = append(batch, at)
		}
		slices.SortFunc(batch, func(a, b int64) int { return int(saleKey(a) - saleKey(b)) })
		out[lane] = append(out[lane], batch)
		open[lane], seen[lane] = nil, 0
	}
	for i := range n {
		key := saleKey(i)
		lane := int(key) % lanes
		if open[lane] == nil {
			open[lane] = make(map[int64]int64, size)
		}
		open[lane][key] = i
		if seen[lane]++; seen[lane] == size {
			flush(lane)
		}
	}
	for lane := range lanes {
		if seen[lane] > 0 {
			flush(lane)
		}
	}
	return out
}

// saleTopic is a topic full of sales.
type saleTopic struct {
	name       string
	partitions int
	n          int64
}

// sales returns a topic with n events in so many partitions, which stays for the run.
func (r *sinkRig) sales(ctx context.Context, partitions int, n int64) (saleTopic, error) {
	t := saleTopic{name: fmt.Sprintf("bench.sales_%d_%d", partitions, n), partitions: partitions, n: n}
	if slices.Contains(r.filled, t) {
		return t, nil
	}
	if err := r.fill(ctx, t); err != nil {
		return t, err
	}
	r.filled = append(r.filled, t)
	return t, nil
}

// fill makes a topic and fills it.
func (r *sinkRig) fill(ctx context.Context, t saleTopic) error {
	created, err := r.admin.CreateTopic(ctx, int32(t.partitions), 1, nil, t.name)
	if err == nil {
		err = created.Err
	}
	if err != nil {
		return fmt.Errorf("create topic %s: %w", t.name, err)
	}
	client, err := r.saleProducer(kgo.ProducerLinger(ceilingLinger), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		return err
	}
	defer client.Close()
	var done atomic.Int64
	tell := r.progress(func() string {
		return fmt.Sprintf("filling %s: %s of %s events", t.name, thousands(done.Load()), thousands(t.n))
	})
	defer tell()
	var refused kgo.FirstErrPromise
	for i := range t.n {
		client.Produce(ctx, r.sale(t.name, i), refused.Promise())
		done.Store(i)
	}
	if err := errors.Join(client.Flush(ctx), refused.Err()); err != nil {
		return fmt.Errorf("fill %s: %w", t.name, err)
	}
	return nil
}

// saleProducer is a producer that keeps a key to its partition.
func (r *sinkRig) saleProducer(more ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(append(append(r.seeds(),
		kgo.ProducerBatchCompression(kgo.SnappyCompression()), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.UnknownTopicRetries(50),
	), more...)...)
	if err != nil {
		return nil, fmt.Errorf("make a producer: %w", err)
	}
	return client, nil
}

// sale is event n as a record, with the relay's headers.
func (r *sinkRig) sale(topic string, n int64) *kgo.Record {
	key := saleKeyText(saleKey(n))
	value := r.sold.append(avro.AppendFrame(make([]byte, 0, 160), r.schemaID), key, n)
	return &kgo.Record{Topic: topic, Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
		{Key: "ce_id", Value: []byte(eventID(n))}, {Key: "ce_type", Value: []byte("bench.SaleMade")}, {Key: "ce_source", Value: []byte("/outbox/bench")},
		{Key: "ce_time", Value: []byte(saleTime)}, {Key: "millrace-seq", Value: strconv.AppendInt(nil, n+1, 10)},
	}}
}

const saleTime = "2026-05-01T10:20:30.123456Z"

func eventID(n int64) string { return fmt.Sprintf("6ba7b810-9dad-11d1-80b4-%012x", n) }
