package export

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// quietLimit is how long the brokers may have nothing to say before the end of the topic.
const quietLimit = 30 * time.Second

// ErrNoTopic says that the topic does not exist.
var ErrNoTopic = errors.New("no such topic")

// topic is a topic between its first record and what was committed when it was opened.
type topic struct {
	name     string
	kafka    []kgo.Opt
	first    map[int32]int64
	end      map[int32]int64
	done, of int64
	progress func(done, of int64)
}

func openTopic(ctx context.Context, opts []kgo.Opt, name string) (*topic, error) {
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("make a Kafka client: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	starts, err := adm.ListStartOffsets(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("ask Kafka about %s: %w", name, err)
	}
	if err := starts.Error(); errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("%w: %s", ErrNoTopic, name)
	} else if err != nil {
		return nil, fmt.Errorf("ask Kafka about %s: %w", name, err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask Kafka about %s: %w", name, err)
	}
	t := &topic{name: name, kafka: opts, first: map[int32]int64{}, end: map[int32]int64{}}
	ends.Each(func(o kadm.ListedOffset) {
		start, ok := starts.Lookup(o.Topic, o.Partition)
		if ok && o.Offset > start.Offset {
			t.first[o.Partition], t.end[o.Partition] = start.Offset, o.Offset
			t.of += 2 * (o.Offset - start.Offset) // two passes
		}
	})
	return t, nil
}

// scan calls f for every committed record, partition by partition in order.
func (t *topic) scan(ctx context.Context, f func(*kgo.Record) error) error {
	from := map[int32]kgo.Offset{}
	left := map[int32]bool{}
	for p, first := range t.first {
		from[p], left[p] = kgo.NewOffset().At(first), true
	}
	if len(left) == 0 {
		return nil
	}
	opts := append(append([]kgo.Opt{}, t.kafka...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.name: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	defer cl.Close()
	for len(left) > 0 {
		poll, cancel := context.WithTimeout(ctx, quietLimit)
		fetches := cl.PollFetches(poll)
		cancel()
		if ctx.Err() == nil && errors.Is(fetches.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("read %s: nothing came for %s, and %d partitions are not at their ends: a compacted topic whose last records are gone?", t.name, quietLimit, len(left))
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s: %w", t.name, err)
		}
		var failed error
		fetches.EachRecord(func(r *kgo.Record) {
			if failed != nil || !left[r.Partition] {
				return
			}
			t.done++
			if r.Offset >= t.end[r.Partition]-1 {
				delete(left, r.Partition)
			}
			if r.Offset < t.end[r.Partition] && !r.Attrs.IsControl() {
				failed = f(r)
			}
		})
		if failed != nil {
			return failed
		}
		if t.progress != nil {
			t.progress(t.done, t.of)
		}
	}
	return nil
}
