package relay

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"
)

// Partitions of the cursor topic.
const (
	cursorPartition  = 0 // cursor records, key cursorKey
	idPartition      = 1 // registry ids by fingerprint and subject
	cursorPartitions = 2
)

// cursorKey is the key of every cursor record: compaction keeps the newest.
const cursorKey = "cursor"

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
			// What was discarded must be known for as long as its row may be retained: see ReAnchor.
			"delete.retention.ms": strconv.FormatInt((30 * 24 * time.Hour).Milliseconds(), 10), "max.message.bytes": large, "segment.bytes": strconv.Itoa(4 * maxParkedBytes)})},
	}
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
	if mayNot(err) {
		return nil
	}
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
