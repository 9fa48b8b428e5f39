package consumers

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrOffsetGone stops a sink whose position the topic no longer has: events were deleted before they were applied, or the topic is
// another one by the same name. It is systemic; the sink needs a rebuild, or the topic its events back.
var ErrOffsetGone = errors.New("the topic no longer has the sink's position")

// fetchError handles what came instead of records.
func (c *Consumer) fetchError(topic string, partition int32, err error) {
	var session *kgo.ErrGroupSession
	var loss *kgo.ErrDataLoss
	var large *kgo.ErrDecompressTooLarge
	tp := TopicPartition{Topic: topic, Partition: partition}
	switch {
	case c.fetching.Err() != nil, errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed):
	case errors.Is(err, kerr.OffsetOutOfRange):
		c.fail(c.explainGone(tp))
	case errors.As(err, &loss):
		c.fail(AsSystemic(fmt.Errorf("%s/%d: %w: %w", topic, partition, ErrOffsetGone, err)))
	case errors.As(err, &large):
		c.fail(AsSystemic(fmt.Errorf("%s/%d: a batch of records grows to more than %d bytes: %w", topic, partition, maxBatchBytes, err)))
	case Classify(ClassifyKafka(err)) == Systemic:
		c.fail(AsSystemic(fmt.Errorf("fetch %s/%d: %w", topic, partition, err)))
	case errors.As(err, &session):
		c.log.Debug("the group session ended", "err", err) // lost has said so
	default:
		c.outages.begin(outageKafka, TopicPartition{}, err)
	}
}

// explainGone says which offsets there are instead.
func (c *Consumer) explainGone(tp TopicPartition) error {
	ctx, cancel := context.WithTimeout(c.fetching, leaveTimeout)
	defer cancel()
	position := int64(-1)
	c.mu.Lock()
	if l := c.lanes[tp]; l != nil {
		position = l.position()
	}
	c.mu.Unlock()
	first, last := "unknown", "unknown"
	if starts, err := c.adm.ListStartOffsets(ctx, tp.Topic); err == nil {
		if o, ok := starts.Lookup(tp.Topic, tp.Partition); ok && o.Err == nil {
			first = fmt.Sprint(o.Offset)
		}
	}
	if ends, err := c.adm.ListEndOffsets(ctx, tp.Topic); err == nil {
		if o, ok := ends.Lookup(tp.Topic, tp.Partition); ok && o.Err == nil {
			last = fmt.Sprint(o.Offset)
		}
	}
	return AsSystemic(fmt.Errorf("%s/%d: %w: the position is %d, the topic holds %s up to %s; events were deleted before this sink applied them, "+
		"or the topic was created again: rebuild the sink, or restore the topic", tp.Topic, tp.Partition, ErrOffsetGone, position, first, last))
}
