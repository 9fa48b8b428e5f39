package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A broker's JVM compiles what it has run some ten thousand times. A drain of a million events is some hundred requests and
// transactions: after six million events its compilers still took 0.4 to 0.8 s of CPU in each million, and none beside the produce ceiling,
// which needs less of the broker. So a warm-up has requests as well as bytes.
const (
	warmRequests     = 150_000 // of one record each
	warmTransactions = 15_000  // of one record each
	warmClients      = 8       // that wait for each answer
)

// warmUp lets the broker compile what it will run, and takes the sample for the ceiling. What it measures is thrown away.
func (r *rig) warmUp(ctx context.Context) error {
	if r.opts.Warmup == 0 || r.warm {
		return nil
	}
	r.warm = true
	r.say("warm-up: %s events", thousands(r.opts.Warmup))
	return r.drainOnce(ctx, "warmup", r.opts.Warmup, func(*site, drained) error {
		if _, err := r.produceCeiling(ctx, r.opts.Warmup); err != nil {
			return fmt.Errorf("warm-up: %w", err)
		}
		return r.warmRequests(ctx)
	})
}

// warmRequests sends many small requests to the broker: single records, single transactions.
func (r *rig) warmRequests(ctx context.Context) error {
	r.sites++
	topic := fmt.Sprintf("bench.requests_%d", r.sites)
	if _, err := r.admin.CreateTopic(ctx, int32(r.opts.Partitions), 1, nil, topic); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	defer r.admin.DeleteTopics(context.WithoutCancel(ctx), topic)
	var records, transactions atomic.Int64
	tell := r.progress(func() string {
		return fmt.Sprintf("warm-up: %s requests, %s transactions", thousands(records.Load()), thousands(transactions.Load()))
	})
	defer tell()
	errs := make([]error, warmClients)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			if i%2 == 0 {
				errs[i] = r.oneByOne(ctx, topic, &records)
			} else {
				errs[i] = r.oneEach(ctx, topic, fmt.Sprintf("%s-%d", topic, i), &transactions)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// oneByOne produces single records, each when the one before is acknowledged.
func (r *rig) oneByOne(ctx context.Context, topic string, done *atomic.Int64) error {
	client, err := kgo.NewClient(append(r.seeds(), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0))...)
	if err != nil {
		return err
	}
	defer client.Close()
	for done.Add(1) <= warmRequests {
		if err := client.ProduceSync(ctx, r.anyRecord()).FirstErr(); err != nil {
			return fmt.Errorf("produce to %s: %w", topic, err)
		}
	}
	return nil
}

// oneEach commits transactions of a single record.
func (r *rig) oneEach(ctx context.Context, topic, id string, done *atomic.Int64) error {
	client, err := kgo.NewClient(append(r.seeds(), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0), kgo.TransactionalID(id))...)
	if err != nil {
		return err
	}
	defer client.Close()
	for done.Add(1) <= warmTransactions {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		if err := client.ProduceSync(ctx, r.anyRecord()).FirstErr(); err != nil {
			return fmt.Errorf("produce to %s: %w", topic, err)
		}
		if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return fmt.Errorf("commit a transaction of %s: %w", id, err)
		}
	}
	return nil
}

// anyRecord is one of the sample.
func (r *rig) anyRecord() *kgo.Record {
	s := &r.sample[time.Now().Nanosecond()%len(r.sample)]
	return &kgo.Record{Key: s.key, Value: s.value, Headers: s.headers}
}
