package relay

import (
	"context"
	"encoding/base64"
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

// Partitions of the cursor topic.
const (
	cursorPartition  = 0 // cursor records, key cursorKey
	idPartition      = 1 // registry ids by fingerprint and subject
	cursorPartitions = 2
)

// cursorKey is the key of every cursor record: compaction keeps the newest.
const cursorKey = "cursor"

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

// internals are the topics that hold the relay's own records.
func (t *topics) internals() map[string]Topic {
	compacted := func(more map[string]string) map[string]string {
		configs := map[string]string{
			"cleanup.policy": "compact", "segment.bytes": strconv.Itoa(1 << 20), "segment.ms": "600000",
			"min.cleanable.dirty.ratio": "0.1",
		}
		for k, v := range more {
			configs[k] = v
		}
		return configs
	}
	large := strconv.Itoa(maxParkedBytes + batchOverhead)
	return map[string]Topic{
		cursorTopic(t.cfg.Outbox): {Partitions: cursorPartitions, Replication: t.cfg.Replication, Configs: compacted(nil)},
		parkedTopic(t.cfg.Outbox): {Partitions: 1, Replication: t.cfg.Replication, Configs: compacted(map[string]string{
			"max.message.bytes": large, "segment.bytes": strconv.Itoa(4 * maxParkedBytes)})},
	}
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

// ensureInternals makes the cursor and parked topics, unless a relay was started before: then they must be there. It
// returns where the cursor is kept.
func (t *topics) ensureInternals(ctx context.Context, started bool) (place, error) {
	for name, topic := range t.internals() {
		if err := t.ensureInternal(ctx, name, topic, started); err != nil {
			return place{}, err
		}
	}
	name := cursorTopic(t.cfg.Outbox)
	meta, err := t.admin.Metadata(ctx, name)
	if err != nil {
		return place{}, fmt.Errorf("ask Kafka about %s: %w", name, err)
	}
	detail := meta.Topics[name]
	if detail.Err != nil {
		return place{}, fmt.Errorf("ask Kafka about %s: %w", name, detail.Err)
	}
	if n := len(detail.Partitions); n != cursorPartitions {
		return place{}, stopf("give this outbox another name, or remove the topic if nothing was ever published",
			"%w: topic %s has %d partitions, a cursor topic has %d", ErrCursorForeign, name, n, cursorPartitions)
	}
	return place{cluster: meta.Cluster, topicID: base64.RawURLEncoding.EncodeToString(detail.ID[:])}, nil
}

func (t *topics) ensureInternal(ctx context.Context, name string, topic Topic, started bool) error {
	var err error
	if started {
		err = t.mustExist(ctx, name)
	} else {
		_, err = t.ensure(ctx, name, topic, topic.Configs)
	}
	if err != nil {
		return err
	}
	return t.checkCompacted(ctx, name)
}

// mustExist stops when a topic that a started outbox cannot do without is gone. Making it anew would look like a start
// from nothing.
func (t *topics) mustExist(ctx context.Context, name string) error {
	n, err := t.count(ctx, name)
	switch {
	case err != nil || n > 0:
		return err
	case name == parkedTopic(t.cfg.Outbox):
		return stopf("bring it back; if no event was parked, make it again, with one partition and cleanup.policy=compact",
			"%w: topic %s does not exist", ErrParkedMissing, name)
	}
	return stopf("bring it back: without it nobody knows what was published", "%w: topic %s does not exist", ErrCursorMissing, name)
}

// place says which topic of which cluster holds the cursor.
type place struct{ cluster, topicID string }

// checkCompacted refuses a cursor or parked topic that forgets: Kafka would delete the cursor of a quiet outbox, and events
// that were parked long ago. Without the right to read configs nothing can be said.
func (t *topics) checkCompacted(ctx context.Context, name string) error {
	described, err := t.admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return fmt.Errorf("read the configs of %s: %w", name, err)
	}
	resource, err := described.On(name, nil)
	if err != nil || resource.Err != nil {
		return nil
	}
	unfit := ErrCursorForeign
	if name == parkedTopic(t.cfg.Outbox) {
		unfit = ErrParkedForgets
	}
	for _, c := range resource.Configs {
		if c.Key == "cleanup.policy" && c.MaybeValue() != "compact" {
			return stopf("set cleanup.policy=compact on it", "%w: topic %s has cleanup.policy=%s and may delete what it holds",
				unfit, name, c.MaybeValue())
		}
	}
	return nil
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
