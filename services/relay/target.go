package relay

import (
	"context"
	"time"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

// target is what framing asks about the topic and the schema of an event, kept for the next one: most pages are of few of them, and
// each answer is a map's, some behind a lock. It lives as long as its batch, and so does its time: the clock is not asked for each event.
type target struct {
	topic      string // "" before the first event
	partitions int32
	limit      int
	span       span
	at         time.Time

	fingerprint schemas.Fingerprint
	schema      *resolved // nil until one was resolved for this topic
}

// aim makes a topic the batch's target.
func (f *framer) aim(ctx context.Context, b *batch, topic string, next *cursor) (*target, *fault, error) {
	if b.target.topic == topic {
		return &b.target, nil, nil
	}
	if _, known := next.Partitions[topic]; !known {
		if wrong, err := f.firstUse(ctx, topic, next); wrong != nil || err != nil {
			return nil, wrong, err
		}
	}
	b.target = target{topic: topic, partitions: next.Partitions[topic], limit: f.limit(topic), span: span{after: maxAhead}, at: f.now()}
	if f.span != nil {
		b.target.span = f.span(topic)
	}
	return &b.target, nil, nil
}

// schema returns the schema of an event.
func (f *framer) schema(ctx context.Context, b *batch, e *store.Event) (*resolved, *fault, error) {
	if t := &b.target; t.schema != nil && t.topic == e.Topic && t.fingerprint == e.Fingerprint {
		return t.schema, nil, nil
	}
	return f.ids.resolve(ctx, e.Fingerprint, e.Topic)
}
