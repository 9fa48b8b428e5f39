package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// What a reading holds of a topic, in bytes, and the records that it takes at once.
const (
	readBytes   = 16 << 20
	maxBatch    = 128 << 20
	readRecords = 5000
)

// read gives the committed records of a partition from one offset to another to f, in order.
func read(ctx context.Context, kafka []kgo.Opt, tp consumers.TopicPartition, from, until int64, f func(*kgo.Record) error) error {
	if from >= until {
		return nil
	}
	cl, err := kgo.NewClient(append(slices.Clone(kafka),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{tp.Topic: {tp.Partition: kgo.NoResetOffset().At(from)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(readBytes), kgo.FetchMaxPartitionBytes(readBytes/2), kgo.MaxDecompressBatchBytes(maxBatch), kgo.MaxConcurrentFetches(1),
		kgo.KeepControlRecords(), // they take offsets: the end is reached with them
	)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		fetches := cl.PollRecords(ctx, readRecords)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := lasting(fetches); err != nil {
			return fmt.Errorf("read %s/%d: %w", tp.Topic, tp.Partition, consumers.ClassifyKafka(err))
		}
		for _, rec := range fetches.Records() {
			if rec.Offset < until && !rec.Attrs.IsControl() {
				if err := f(rec); err != nil {
					return err
				}
			}
			if rec.Offset >= until-1 {
				return nil
			}
		}
	}
}

// lasting is the first error that no retry of the client mends.
func lasting(fetches kgo.Fetches) (first error) {
	fetches.EachError(func(_ string, _ int32, err error) {
		if first == nil && !kerr.IsRetriable(err) {
			first = err
		}
	})
	return first
}

// History reads the records of a partition that a sink has applied, from the first there ever was: those that the log does not hold any more come from
// the sink's own bronze. It returns a *Forgotten if neither has them.
func History(ctx context.Context, kafka []kgo.Opt, store fold.Sink, tp consumers.TopicPartition, start, until int64, f func(*kgo.Record) error) (fromBronze bool, err error) {
	if start > 0 {
		k, keeps := store.(fold.EventKeeper)
		if !keeps {
			return false, &Forgotten{tp, start, "and the sink keeps no events"}
		}
		kept, err := k.Kept(ctx)
		if err != nil {
			return false, err
		}
		if has, ok := kept[tp]; !ok || has.First >= start {
			return false, &Forgotten{tp, start, "and the sink keeps none from before"}
		}
		if err := k.Records(ctx, tp, 0, min(start, until), once(f)); err != nil {
			return false, err
		}
		fromBronze = true
	}
	return fromBronze, read(ctx, kafka, tp, start, until, f)
}

// once leaves out what is kept twice.
func once(f func(*kgo.Record) error) func(*kgo.Record) error {
	last := int64(-1)
	return func(rec *kgo.Record) error {
		if rec.Offset == last {
			return nil
		}
		last = rec.Offset
		return f(rec)
	}
}

// Forgotten is why the events of a partition cannot be had from the first on.
type Forgotten struct {
	consumers.TopicPartition
	Start int64
	Why   string
}

// Error says where the log begins.
func (e *Forgotten) Error() string {
	return fmt.Sprintf("the log of %s/%d begins at offset %d, %s: what was before is not known", e.Topic, e.Partition, e.Start, e.Why)
}
