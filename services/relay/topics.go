package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// brokerBatchBytes is what a topic accepts when nobody says otherwise (max.message.bytes of Apache Kafka).
const brokerBatchBytes = 1048588

// batchOverhead is what a batch of one record weighs besides the record, generously.
const batchOverhead = 1024

// topics looks after the topics of one outbox. It belongs to one session.
type topics struct {
	cfg    Config
	client *kgo.Client
	admin  *kadm.Client
	limits *limits
}

// configs are the topic configs of a topic for events.
func (t *topics) configs(topic Topic) map[string]string {
	configs := map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
	if topic.Retention > 0 {
		configs["retention.ms"] = strconv.FormatInt(topic.Retention.Milliseconds(), 10)
	}
	if t.cfg.MaxRecordBytes+batchOverhead > brokerBatchBytes {
		configs["max.message.bytes"] = strconv.Itoa(t.cfg.MaxRecordBytes + batchOverhead)
	}
	for k, v := range topic.Configs {
		configs[k] = v
	}
	return configs
}

// ensureConfigured makes the topics of the configuration. A topic that was published to before is not made again.
func (t *topics) ensureConfigured(ctx context.Context, published map[string]int32) error {
	for name, topic := range t.cfg.Topics {
		if _, ok := published[name]; ok {
			continue
		}
		if _, err := t.ensure(ctx, name, topic, t.configs(topic)); err != nil {
			return err
		}
	}
	if err := t.checkPublished(ctx, published); err != nil {
		return err
	}
	names := slices.Collect(maps.Keys(published))
	names = slices.AppendSeq(names, maps.Keys(t.cfg.Topics))
	return t.readLimits(ctx, append(names, parkedTopic(t.cfg.Outbox))...)
}

// checkPublished stops when a topic has fewer partitions than its keys are hashed over, or is gone.
func (t *topics) checkPublished(ctx context.Context, published map[string]int32) error {
	if len(published) == 0 {
		return nil
	}
	names := make([]string, 0, len(published))
	for name := range published {
		names = append(names, name)
	}
	meta, err := t.admin.Metadata(ctx, names...)
	if err != nil {
		return fmt.Errorf("ask Kafka about the topics published to: %w", err)
	}
	for name, want := range published {
		detail := meta.Topics[name]
		if detail.Err != nil && !errors.Is(detail.Err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("ask Kafka about %s: %w", name, detail.Err)
		}
		if have := len(detail.Partitions); have < int(want) {
			return stopf(fmt.Sprintf("if it was deleted on purpose, make it again with %d partitions", want),
				"%w: %s has %d, its keys are hashed over %d", ErrPartitions, name, have, want)
		}
	}
	return nil
}

// partitions is called for the first event to a topic. It makes the topic if need be, and reads how large its records may be.
func (t *topics) partitions(ctx context.Context, name string) (int32, error) {
	topic, ok := t.cfg.Topics[name]
	if !ok {
		topic = t.cfg.TopicDefaults
	}
	n, err := t.ensure(ctx, name, topic, t.configs(topic))
	if err != nil {
		return 0, err
	}
	return n, t.readLimits(ctx, name)
}

// ensure makes a topic unless it exists, waits until it can be seen, and returns how many partitions it has.
func (t *topics) ensure(ctx context.Context, name string, topic Topic, configs map[string]string) (int32, error) {
	n, err := t.count(ctx, name)
	if err != nil || n > 0 {
		return n, err
	}
	values := make(map[string]*string, len(configs))
	for k, v := range configs {
		values[k] = kadm.StringPtr(v)
	}
	_, err = t.admin.CreateTopic(ctx, int32(topic.Partitions), int16(topic.Replication), values, name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return 0, fmt.Errorf("make topic %s: %w", name, err)
	}
	wait := backoff{min: 5 * time.Millisecond, max: 100 * time.Millisecond}
	for attempt := 0; ; attempt++ {
		if n, err = t.count(ctx, name); err != nil || n > 0 {
			return n, err
		}
		if err := wait.wait(ctx, attempt); err != nil {
			return 0, fmt.Errorf("wait for topic %s: %w", name, err)
		}
	}
}

// count returns how many partitions a topic has; 0 if it does not exist, or has a partition without a leader as yet.
func (t *topics) count(ctx context.Context, name string) (int32, error) {
	meta, err := t.admin.Metadata(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("ask Kafka about %s: %w", name, err)
	}
	detail := meta.Topics[name]
	if errors.Is(detail.Err, kerr.UnknownTopicOrPartition) {
		return 0, nil
	}
	if detail.Err != nil {
		return 0, fmt.Errorf("ask Kafka about %s: %w", name, detail.Err)
	}
	return int32(len(detail.Partitions)), nil
}
