package bench

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/bench/measure"
)

// The ceilings are what the parts could do if a relay cost nothing: the same records produced from memory without
// transactions, and the same rows read from Postgres and thrown away.

// sampled is a record as the relay has published it.
type sampled struct {
	key, value []byte
	headers    []kgo.RecordHeader
}

// maxSample bounds the memory of the sample; the ceiling produces it over and over.
const maxSample = 100_000

// takeSample keeps records of the first drain for the produce ceiling, so that both write the very same bytes.
func (r *rig) takeSample(rec *kgo.Record) {
	if len(r.sample) < maxSample {
		r.sample = append(r.sample, sampled{rec.Key, rec.Value, rec.Headers})
	}
}

// produced is what the produce ceiling took.
type produced struct {
	rate   float64 // records a second
	cpu    float64 // CPU seconds per million records of the producing process
	broker float64 // and of Kafka
}

// ceilingLinger is how long a batch may fill: the best of those tried (0, 2, 5 and 20 ms differ by less than their spread).
const ceilingLinger = 20 * time.Millisecond

// produceSlab is how many records are made at a time, as the relay makes them.
const produceSlab = 5000

// produceCeiling produces n records from memory: idempotent, all acknowledged, Snappy, the Java-compatible partitioner; no
// transactions, no Postgres.
func (r *rig) produceCeiling(ctx context.Context, n int64) (produced, error) {
	r.sites++
	topic := fmt.Sprintf("bench.ceiling_%d", r.sites)
	if _, err := r.admin.CreateTopic(ctx, int32(r.opts.Partitions), 1, nil, topic); err != nil {
		return produced{}, fmt.Errorf("create topic %s: %w", topic, err)
	}
	defer r.admin.DeleteTopics(context.WithoutCancel(ctx), topic)
	client, err := kgo.NewClient(append(r.seeds(),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.SnappyCompression()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.ProducerLinger(ceilingLinger),
		kgo.MaxBufferedRecords(200_000),
	)...)
	if err != nil {
		return produced{}, fmt.Errorf("make a producer: %w", err)
	}
	defer client.Close()
	// The connection, the producer id and the topic's metadata are there before the clock starts.
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("first")}).FirstErr(); err != nil {
		return produced{}, fmt.Errorf("produce to %s: %w", topic, err)
	}
	return r.produce(ctx, client, topic, n)
}

func (r *rig) produce(ctx context.Context, client *kgo.Client, topic string, n int64) (produced, error) {
	var acknowledged atomic.Int64
	var failed atomic.Pointer[error]
	tell := r.progress(func() string {
		return fmt.Sprintf("produce ceiling: %s of %s records", thousands(acknowledged.Load()), thousands(n))
	})
	defer tell()
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
			return
		}
		acknowledged.Add(1)
	}
	began, cpu, broker := time.Now(), measure.CPU(os.Getpid()), measure.CPU(r.kafka.PID())
	var slab []kgo.Record
	for i := range n {
		if len(slab) == 0 {
			slab = make([]kgo.Record, min(produceSlab, n-i))
		}
		s := &r.sample[i%int64(len(r.sample))]
		slab[0] = kgo.Record{Topic: topic, Key: s.key, Value: s.value, Headers: s.headers}
		client.Produce(ctx, &slab[0], done)
		slab = slab[1:]
	}
	if err := client.Flush(ctx); err != nil {
		return produced{}, fmt.Errorf("produce to %s: %w", topic, err)
	}
	took := time.Since(began)
	if err := failed.Load(); err != nil {
		return produced{}, fmt.Errorf("produce to %s: %w", topic, *err)
	}
	return produced{
		rate: perSecond(n, took), cpu: perMillion(measure.CPU(os.Getpid())-cpu, n), broker: perMillion(measure.CPU(r.kafka.PID())-broker, n),
	}, nil
}

// allRows are the columns that the relay reads, in the order in which it publishes.
const allRows = `SELECT xid, id, event_id, topic, key, type, schema_fp, payload, body, headers, occurred_at FROM outbox.event ORDER BY id`

// readCeiling reads every row of the site as raw binary values and throws it away. It returns rows a second.
func (s *site) readCeiling(ctx context.Context, n int64) (float64, error) {
	conn, err := pgconn.Connect(ctx, s.dsn)
	if err != nil {
		return 0, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var rows atomic.Int64
	tell := s.rig.progress(func() string {
		return fmt.Sprintf("read ceiling: %s of %s rows", thousands(rows.Load()), thousands(n))
	})
	defer tell()
	for _, sql := range []string{"SET enable_seqscan = off", "SET enable_sort = off", "SET max_parallel_workers_per_gather = 0"} {
		if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
			return 0, fmt.Errorf("%s: %w", sql, err)
		}
	}
	began := time.Now()
	const binary = 1
	result := conn.ExecParams(ctx, allRows, nil, nil, nil, []int16{binary})
	for result.NextRow() {
		if len(result.Values()) > 0 {
			rows.Add(1)
		}
	}
	if _, err := result.Close(); err != nil {
		return 0, fmt.Errorf("read all rows: %w", err)
	}
	took := time.Since(began)
	if rows.Load() != n {
		return 0, fmt.Errorf("read %d rows, not %d", rows.Load(), n)
	}
	return perSecond(n, took), nil
}

func perSecond(n int64, d time.Duration) float64 { return float64(n) / d.Seconds() }

func perMillion(seconds float64, n int64) float64 { return seconds / float64(n) * 1e6 }
