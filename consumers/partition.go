package consumers

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ReadPartition gives the committed records of a partition from one offset to another to f, in order. The log must hold them: where it begins later the error
// says so. An error of f ends it and is returned.
func ReadPartition(ctx context.Context, kafka []kgo.Opt, tp TopicPartition, from, until int64, f func(*kgo.Record) error) error {
	if from >= until {
		return nil
	}
	cl, err := kgo.NewClient(append(slices.Clone(kafka),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{tp.Topic: {tp.Partition: kgo.NoResetOffset().At(from)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(scanBytes), kgo.FetchMaxPartitionBytes(scanBytes/2), kgo.MaxDecompressBatchBytes(maxBatchBytes), kgo.MaxConcurrentFetches(1),
		kgo.KeepControlRecords(), // they take offsets: the end is reached with them
	)...)
	if err != nil {
		return fmt.Errorf("read %s/%d: %w", tp.Topic, tp.Partition, err)
	}
	defer cl.Close()
	for {
		fetches := cl.PollRecords(ctx, pollRecords)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := firstError(fetches); err != nil {
			return ClassifyKafka(fmt.Errorf("read %s/%d: %w", tp.Topic, tp.Partition, err))
		}
		for _, r := range fetches.Records() {
			if r.Offset < until && !r.Attrs.IsControl() {
				if err := f(r); err != nil {
					return err
				}
			}
			if r.Offset >= until-1 {
				return nil
			}
		}
	}
}
