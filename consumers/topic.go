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

// follow tells the Processor which topic a partition is of, before it is claimed.
func (c *Consumer) follow(ctx context.Context, topic string) error {
	<-c.made
	all, err := c.adm.ListTopics(ctx, topic)
	t := all[topic]
	if err == nil {
		err = t.Err
	}
	if err != nil {
		return fmt.Errorf("ask for the id of topic %s: %w", topic, ClassifyKafka(err))
	}
	c.mu.Lock()
	c.ids[topic] = t.ID
	c.mu.Unlock()
	if f, ok := c.proc.(TopicFollower); ok {
		f.Follows(topic, t.ID)
	}
	return nil
}

// watchTopics stops the consumer when a topic is no longer the one that was claimed: the client waits for that one, and offsets of the other look as if all were applied.
func (c *Consumer) watchTopics(ctx context.Context) {
	all, err := c.adm.ListTopics(ctx, c.cfg.Topics...)
	if err != nil {
		return // Kafka is away; others say so
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, was := range c.ids {
		if now, there := all[topic]; there && now.Err == nil && now.ID != was && was != (kadm.TopicID{}) {
			c.fail(AsSystemic(fmt.Errorf("topic %s: %w while it was followed: rebuild the sink", topic, ErrTopicChanged)))
		}
	}
}
