package consumers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ScanLetters reads a sink's dead-letter topic from the beginning to where it ends now, and gives each letter to f, those of one key in the order in
// which they were written. An event can be there several times. Records that are no letters are left out. Memory does not depend
// on how many there are. A topic that does not exist is empty. An error of f ends the scan and is returned.
func ScanLetters(ctx context.Context, kafka []kgo.Opt, sink string, f func(Letter) error) error {
	return scan(ctx, kafka, DeadLetterTopic(sink), func(r *kgo.Record) error {
		l, err := ReadLetter(r)
		if err != nil {
			return nil // nobody's event
		}
		return f(l)
	})
}

// ScanControl reads a sink's control topic from the beginning to where it ends now; ReadControl reads the records. A topic that does not
// exist is empty.
func ScanControl(ctx context.Context, kafka []kgo.Opt, sink string, f func(*kgo.Record) error) error {
	return scan(ctx, kafka, ControlTopic(sink), f)
}

// What a scan holds of a topic, in bytes, and how soon its client asks again about one that was just made: the default is 5 s.
const (
	scanBytes      = 16 << 20
	metadataMinAge = 100 * time.Millisecond
)

// scan reads a topic of ours to where it ends now; f is not given markers of transactions.
func scan(ctx context.Context, kafka []kgo.Opt, topic string, f func(*kgo.Record) error) error {
	cl, err := kgo.NewClient(append(slices.Clone(kafka),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.FetchMaxBytes(scanBytes), kgo.FetchMaxPartitionBytes(scanBytes/4), kgo.MaxConcurrentFetches(1),
		kgo.MaxDecompressBatchBytes(maxBatchBytes),
		kgo.KeepControlRecords(), // they take offsets: the end is reached with them
	)...)
	if err != nil {
		return fmt.Errorf("read %s: %w", topic, err)
	}
	defer cl.Close()
	left, err := span(ctx, kadm.NewClient(cl), topic)
	if err != nil || len(left) == 0 {
		return err
	}
	from := map[int32]kgo.Offset{}
	for p, s := range left {
		from[p] = kgo.NewOffset().At(s.start)
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	for len(left) > 0 {
		fetches := cl.PollRecords(ctx, pollRecords)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := firstError(fetches); err != nil {
			return ClassifyKafka(fmt.Errorf("read %s: %w", topic, err))
		}
		for _, r := range fetches.Records() {
			s, ok := left[r.Partition]
			if ok && r.Offset < s.end && !r.Attrs.IsControl() {
				if err := f(r); err != nil {
					return err
				}
			}
			if r.Offset >= s.end-1 {
				delete(left, r.Partition)
			}
		}
	}
	return nil
}

// extent is where a partition begins and ends.
type extent struct{ start, end int64 }

// span returns the partitions of a topic that hold something; none if it does not exist.
func span(ctx context.Context, adm *kadm.Client, topic string) (map[int32]extent, error) {
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	var ends kadm.ListedOffsets
	if err == nil {
		if ends, err = adm.ListEndOffsets(ctx, topic); err == nil {
			err = ends.Error()
		}
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, nil
	}
	if err != nil {
		return nil, ClassifyKafka(fmt.Errorf("ask where %s ends: %w", topic, err))
	}
	all := map[int32]extent{}
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(topic, end.Partition)
		if ok && start.Offset < end.Offset {
			all[end.Partition] = extent{start.Offset, end.Offset}
		}
	})
	return all, nil
}

// firstError is what no retry of the client mends; it goes on by itself otherwise.
func firstError(fetches kgo.Fetches) error {
	var first error
	fetches.EachError(func(_ string, _ int32, err error) {
		if first == nil && !kerr.IsRetriable(err) {
			first = err
		}
	})
	return first
}
