package relay

import (
	"context"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/millrace/millrace/outbox/store"
)

// maxSpans bounds the spans of one Kafka transaction.
const maxSpans = 1000

// traced is an event whose writer traces it.
type traced struct {
	parent     trace.SpanContext
	topic, key string
	id         uuid.UUID
	partition  int32
	bytes      int
}

// trace notes an event for a span, if its writer's trace is sampled. Of all others it costs a look at one character.
//
// By the semantic conventions for messaging the writer's context is the message's creation context: it is attached when the message is
// made, and whoever carries the message leaves it alone. So the record keeps the writer's traceparent, byte for byte, and the
// relay's span is a child of it, as the consumer's is. What is sent again after a crash is then what was sent before.
func (b *batch) trace(e *store.Event, writer []pair, partition int32, size int) {
	parent, ok := sampled(writer)
	if !ok || len(b.traced) >= maxSpans {
		return
	}
	b.traced = append(b.traced, traced{parent, strings.Clone(e.Topic), strings.Clone(e.Key), e.EventID, partition, size})
}

// sampled returns the context of a sampled traceparent.
func sampled(writer []pair) (trace.SpanContext, bool) {
	for _, p := range writer {
		if p.name != headerTrace {
			continue
		}
		if len(p.value) != len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") || strings.IndexByte("13579bdf", p.value[len(p.value)-1]) < 0 {
			return trace.SpanContext{}, false
		}
		ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{headerTrace: p.value})
		parent := trace.SpanContextFromContext(ctx)
		return parent, parent.IsValid() && parent.IsSampled()
	}
	return trace.SpanContext{}, false
}

// spans makes a span for each traced event of a transaction that is committed: from the read of its page to the acknowledgement.
func (r *Relay) spans(c *commit) {
	for i := range c.traced {
		t := &c.traced[i]
		parent := trace.ContextWithRemoteSpanContext(context.Background(), t.parent)
		_, span := r.cfg.Tracer.Start(parent, "send "+t.topic, trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(c.began))
		if span.IsRecording() {
			span.SetAttributes(
				attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.name", "send"),
				attribute.String("messaging.operation.type", "send"), attribute.String("messaging.destination.name", t.topic),
				attribute.String("messaging.destination.partition.id", strconv.Itoa(int(t.partition))), attribute.String("messaging.kafka.message.key", t.key),
				attribute.String("messaging.message.id", t.id.String()), attribute.Int("messaging.message.body.size", t.bytes),
				attribute.String("millrace.outbox", r.cfg.Outbox), attribute.Int64("millrace.t", c.cursor.T),
			)
		}
		span.End(trace.WithTimestamp(c.ended))
	}
}
