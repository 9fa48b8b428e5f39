package consumers

import (
	"context"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const headerTrace = "traceparent"

// maxSpans bounds the spans of one batch.
const maxSpans = 1000

// trace starts a span for each event of a batch whose writer's trace is sampled, as a child of its traceparent. The function it returns
// ends them with what became of the batch. Without a tracer nothing is looked at.
func (c *Consumer) trace(b *Batch) (end func(error)) {
	if c.cfg.Tracer == nil {
		return func(error) {}
	}
	var spans []trace.Span
	for i := range b.Events {
		e := &b.Events[i]
		parent, ok := sampled(e.Header(headerTrace))
		if !ok || len(spans) == maxSpans {
			continue
		}
		_, span := c.cfg.Tracer.Start(parent, "process "+e.Topic, trace.WithSpanKind(trace.SpanKindConsumer))
		if span.IsRecording() {
			span.SetAttributes(
				attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.name", "process"),
				attribute.String("messaging.operation.type", "process"), attribute.String("messaging.destination.name", e.Topic),
				attribute.String("messaging.destination.partition.id", strconv.Itoa(int(e.Partition))), attribute.Int64("messaging.kafka.offset", e.Offset),
				attribute.String("messaging.kafka.message.key", e.Key), attribute.String("messaging.message.id", e.ID),
				attribute.String("messaging.consumer.group.name", c.cfg.Group), attribute.Int("messaging.batch.message_count", len(b.Events)),
			)
			if e.Err != nil {
				span.SetStatus(codes.Error, e.Err.Error())
			}
		}
		spans = append(spans, span)
	}
	return func(err error) {
		for _, span := range spans {
			if err != nil {
				span.SetStatus(codes.Error, err.Error())
			}
			span.End()
		}
	}
}

// sampled returns a context with a sampled traceparent in it.
func sampled(header string) (context.Context, bool) {
	if len(header) != len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") || strings.IndexByte("13579bdf", header[len(header)-1]) < 0 {
		return nil, false
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{headerTrace: header})
	return ctx, trace.SpanContextFromContext(ctx).IsSampled()
}
