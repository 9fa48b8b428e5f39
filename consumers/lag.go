package consumers

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Lag is how far a sink is behind in one partition.
type Lag struct {
	TopicPartition
	// Start and End are the first offset that the topic has and the one after the last committed record.
	Start, End int64
	// Position is the sink's; -1 if it has none.
	Position int64
	// Lag is the number of offsets from the position, or from the start, to the end.
	Lag int64
}

// Lags compares positions (those of a sink, or the offsets of a group) with the ends of the topics, for every partition of the topics, in
// order. A topic that does not exist is kerr.UnknownTopicOrPartition; the lags of the others are returned beside the error.
func Lags(ctx context.Context, adm *kadm.Client, positions map[TopicPartition]int64, topics ...string) ([]Lag, error) {
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list first offsets of %v: %w", topics, err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list ends of %v: %w", topics, err)
	}
	var lags []Lag
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(end.Topic, end.Partition)
		switch failed := cmp.Or(end.Err, start.Err); {
		case failed != nil:
			err = cmp.Or(err, fmt.Errorf("offsets of topic %s: %w", end.Topic, failed))
			return
		case !ok:
			return // The partition came to be between the two answers.
		}
		l := Lag{TopicPartition: TopicPartition{Topic: end.Topic, Partition: end.Partition}, Start: start.Offset, End: end.Offset, Position: -1}
		if at, ok := positions[l.TopicPartition]; ok {
			l.Position = at
		}
		l.Lag = max(l.End-max(l.Position, l.Start), 0)
		lags = append(lags, l)
	})
	slices.SortFunc(lags, func(a, b Lag) int { return compare(a.TopicPartition, b.TopicPartition) })
	return lags, err
}

func compare(a, b TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

func sortPartitions(all []PartitionStatus) {
	slices.SortFunc(all, func(a, b PartitionStatus) int {
		return compare(TopicPartition{a.Topic, a.Partition}, TopicPartition{b.Topic, b.Partition})
	})
}
