package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/services/sink"
)

// retryEvery is the pause before Kafka is asked again, which looks for a group's coordinator when it is first asked for one.
const retryEvery = 200 * time.Millisecond

// groupStatus asks Kafka about the group of the generation of a sink that serves. Positions live in the sink; the group repeats them for exactly this.
func groupStatus(ctx context.Context, adm *kadm.Client, kafka []kgo.Opt, name string, topics []string) (sinkStatus, error) {
	var row sinkStatus
	of, err := servingGroup(ctx, kafka, name)
	if err != nil {
		return row, err
	}
	group, err := describe(ctx, adm, of)
	if err != nil {
		return row, fmt.Errorf("ask Kafka about group %s: %w", of, err)
	}
	row.State, row.Members = group.State, len(group.Members)
	if row.Lag, err = lag(ctx, adm, of, topics); err != nil {
		return row, fmt.Errorf("ask Kafka about the lag of %s: %w", name, err)
	}
	row.Letters, err = letters(ctx, adm, name)
	return row, err
}

// servingGroup is the group of the generation that serves.
func servingGroup(ctx context.Context, kafka []kgo.Opt, name string) (string, error) {
	rec, err := rebuild.Open(name, kafka...).Read(ctx)
	if err != nil {
		return "", err
	}
	return rebuild.Group(name, rec.Serving), nil
}

func describe(ctx context.Context, adm *kadm.Client, group string) (kadm.DescribedGroup, error) {
	for {
		groups, err := adm.DescribeGroups(ctx, group)
		if err == nil {
			err = groups[group].Err
		}
		if errors.Is(err, kerr.GroupIDNotFound) { // older brokers call it dead
			return kadm.DescribedGroup{Group: group, State: "Dead"}, nil
		}
		var broker *kerr.Error
		if !errors.As(err, &broker) || !broker.Retriable {
			return groups[group], err
		}
		select {
		case <-ctx.Done():
			return groups[group], err
		case <-time.After(retryEvery):
		}
	}
}

// lag is what lies between the group's offsets and the ends of its topics, over all partitions. A topic that does not exist yet
// holds nothing.
func lag(ctx context.Context, adm *kadm.Client, group string, topics []string) (int64, error) {
	there, err := adm.ListTopics(ctx, topics...)
	if err != nil {
		return 0, err
	}
	topics = slices.DeleteFunc(slices.Clone(topics), func(t string) bool { return errors.Is(there[t].Err, kerr.UnknownTopicOrPartition) })
	if len(topics) == 0 {
		return 0, nil
	}
	committed, err := adm.FetchOffsetsForTopics(ctx, group, topics...)
	if err != nil {
		return 0, err
	}
	positions := map[consumers.TopicPartition]int64{}
	committed.Each(func(o kadm.OffsetResponse) {
		positions[consumers.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o.At
	})
	lags, err := consumers.Lags(ctx, adm, positions, topics...)
	var n int64
	for _, l := range lags {
		n += l.Lag
	}
	return n, err
}

func letters(ctx context.Context, adm *kadm.Client, name string) (int64, error) {
	topic := sink.DeadLetterTopic(name)
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("ask Kafka about %s: %w", topic, err)
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("ask Kafka about %s: %w", topic, err)
	}
	var n int64
	ends.Each(func(o kadm.ListedOffset) {
		if start, ok := starts.Lookup(o.Topic, o.Partition); ok && o.Err == nil && start.Err == nil {
			n += o.Offset - start.Offset
		}
	})
	return n, nil
}
