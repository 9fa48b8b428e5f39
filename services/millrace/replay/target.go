package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/pace"
	"github.com/millrace/millrace/services/relay"
)

// Headers of a copy, besides millrace-replayed and those of the record itself: where it stood. The version of the record, millrace-seq, is
// called HeaderSeq: it counts in the source, and readers that skip versions they have seen are to see this one.
const (
	HeaderTopic     = "millrace-source-topic"
	HeaderPartition = "millrace-source-partition"
	HeaderOffset    = "millrace-source-offset"
	HeaderSeq       = "millrace-source-seq"

	versionHeader = "millrace-seq"
)

// allowed refuses what must not be written to, or is no topic of events.
func allowed(ctx context.Context, client *kgo.Client, cfg Config) error {
	for _, topic := range []string{cfg.Topic, cfg.Into} {
		if why := relay.TopicFault(topic); why != "" {
			return fmt.Errorf("%w: %.100q: %s", ErrForbidden, topic, why)
		}
	}
	if cfg.Topic == cfg.Into {
		return fmt.Errorf("%w: %s is the topic that is copied", ErrForbidden, cfg.Into)
	}
	if why := relay.TopicFault("x" + strings.TrimPrefix(journalTopic(cfg.Into), "_")); why != "" {
		return fmt.Errorf("%w: %.100q: its name is too long for a journal beside it", ErrForbidden, cfg.Into)
	}
	for outbox, topics := range cfg.Outboxes {
		ours := slices.Contains(topics, cfg.Into)
		if !ours {
			published, err := relay.Published(ctx, client, outbox)
			if err != nil {
				return err
			}
			_, ours = published[cfg.Into]
		}
		if ours {
			return fmt.Errorf("%w: %s is a topic of outbox %s: its readers would see events twice", ErrForbidden, cfg.Into, outbox)
		}
	}
	return nil
}

// target is the topic that is written to.
type target struct {
	topic      string
	partitions int32
}

func openTarget(ctx context.Context, client *kgo.Client, admin *kadm.Client, cfg Config, like int32) (*target, error) {
	t := &target{topic: cfg.Into}
	var err error
	if t.partitions, err = ensure(ctx, admin, cfg.Into, like, func() map[string]string {
		configs := map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
		for name, value := range sizes(ctx, admin, cfg.Topic) {
			configs[name] = value
		}
		return configs
	}); err != nil {
		return nil, err
	}
	return t, nil
}

// sizes is how large a record of the source may be, so that its copies fit. Without the right to read it the broker's default holds.
func sizes(ctx context.Context, admin *kadm.Client, topic string) map[string]string {
	described, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil
	}
	for _, resource := range described {
		for _, c := range resource.Configs {
			if c.Key == "max.message.bytes" && c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				return map[string]string{c.Key: c.MaybeValue()}
			}
		}
	}
	return nil
}

// ensure makes a topic unless it exists, waits until it can be seen, and returns how many partitions it has.
func ensure(ctx context.Context, admin *kadm.Client, topic string, partitions int32, configs func() map[string]string) (int32, error) {
	n, err := count(ctx, admin, topic)
	if err != nil || n > 0 {
		return n, err
	}
	values := map[string]*string{}
	for name, value := range configs() {
		values[name] = &value
	}
	if _, err := admin.CreateTopic(ctx, partitions, -1, values, topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return 0, fmt.Errorf("make topic %s: %w", topic, err)
	}
	for {
		if n, err = count(ctx, admin, topic); err != nil || n > 0 {
			return n, err
		}
		if err := pace.Sleep(ctx, 20*time.Millisecond); err != nil {
			return 0, fmt.Errorf("wait for topic %s: %w", topic, err)
		}
	}
}

// count is how many partitions a topic has; 0 if there is none, or no leader yet.
func count(ctx context.Context, admin *kadm.Client, topic string) (int32, error) {
	meta, err := admin.Metadata(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("ask Kafka about %s: %w", topic, err)
	}
	detail := meta.Topics[topic]
	if errors.Is(detail.Err, kerr.UnknownTopicOrPartition) {
		return 0, nil
	}
	for _, p := range detail.Partitions {
		if errors.Is(p.Err, kerr.LeaderNotAvailable) {
			return 0, nil
		}
	}
	if detail.Err != nil {
		return 0, fmt.Errorf("ask Kafka about %s: %w", topic, detail.Err)
	}
	return int32(len(detail.Partitions)), nil
}

// copy is a record as it is written: key, value, time and headers of the first time, and where it comes from. Without a key it stays
// behind those that it stood behind.
func (t *target) copy(r *kgo.Record, at time.Time) *kgo.Record {
	out := &kgo.Record{Topic: t.topic, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}
	if out.Partition = r.Partition % t.partitions; r.Key != nil {
		out.Partition = relay.Partition(r.Key, t.partitions)
	}
	out.Headers = make([]kgo.RecordHeader, 0, len(r.Headers)+5)
	for _, h := range r.Headers {
		switch h.Key {
		case relay.HeaderReplayed, HeaderTopic, HeaderPartition, HeaderOffset, HeaderSeq: // of a copy of a copy
		case versionHeader:
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: HeaderSeq, Value: h.Value})
		default:
			out.Headers = append(out.Headers, h)
		}
	}
	add := func(key, value string) {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	add(relay.HeaderReplayed, at.Format(time.RFC3339))
	add(HeaderTopic, r.Topic)
	add(HeaderPartition, strconv.Itoa(int(r.Partition)))
	add(HeaderOffset, strconv.FormatInt(r.Offset, 10))
	return out
}
