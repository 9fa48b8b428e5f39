package consumers

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
)

// ErrTopicChanged stops a sink whose topic was deleted and made again by the same name: offsets of the new one say nothing of what was applied of the former. It is
// systemic; the sink needs a rebuild.
var ErrTopicChanged = errors.New("the topic was deleted and created again")

// TopicFollower is a Processor that remembers of which topic its positions are.
type TopicFollower interface {
	// Follows tells, before each Claim of a partition, which topic it is that has the name now. It is zero where the broker gives topics no ids.
	Follows(topic string, id kadm.TopicID)
}

// topicIDs asks which topics have these names now. Those that are not there are left out.
func topicIDs(ctx context.Context, adm *kadm.Client, topics ...string) (map[string]kadm.TopicID, error) {
	all, err := adm.ListTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("ask for the ids of topics: %w", err)
	}
	ids := map[string]kadm.TopicID{}
	for _, t := range all {
		if t.Err == nil {
			ids[t.Topic] = t.ID
		}
	}
	return ids, nil
}

// follow tells the Processor which topic a partition is of, before it is claimed.
func (c *Consumer) follow(ctx context.Context, topic string) error {
	ids, err := topicIDs(ctx, c.adm, topic)
	if err != nil {
		return err
	}
	id, there := ids[topic]
	if !there {
		return fmt.Errorf("topic %s is not known", topic)
	}
	c.mu.Lock()
	c.ids[topic] = id
	c.mu.Unlock()
	if f, ok := c.proc.(TopicFollower); ok {
		f.Follows(topic, id)
	}
	return nil
}

// watchTopics stops the consumer when a topic is no longer the one that was claimed: the client waits for that one, and offsets of the other look as if all were applied.
func (c *Consumer) watchTopics(ctx context.Context) {
	ids, err := topicIDs(ctx, c.adm, c.cfg.Topics...)
	if err != nil {
		return // Kafka is away; others say so
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, was := range c.ids {
		if now, there := ids[topic]; there && now != was && was != (kadm.TopicID{}) {
			c.fail(AsSystemic(fmt.Errorf("topic %s: %w while it was followed: rebuild the sink", topic, ErrTopicChanged)))
		}
	}
}
