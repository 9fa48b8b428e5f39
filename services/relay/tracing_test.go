package relay

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/millrace/millrace/outbox/store"
)

const someTrace = "4bf92f3577b34da6a3ce929d0e0e4736"

// Only what the writer samples gets a span, and what it does not sample costs nothing.
func TestOnlySampledEventsAreTraced(t *testing.T) {
	e := &store.Event{Topic: "shop.orders", Key: "o-1", EventID: uuid.New()}
	traceparent := func(flags string) []pair {
		return []pair{{"user", "u"}, {headerTrace, "00-" + someTrace + "-00f067aa0ba902b7-" + flags}}
	}
	b := newBatch(1)
	for _, none := range [][]pair{
		nil, {{"user", "u"}}, traceparent("00"), {{headerTrace, "01"}}, {{headerTrace, ""}}, traceparent("zz"), traceparent("0Z"),
		{{headerTrace, "00-00000000000000000000000000000000-00f067aa0ba902b7-01"}},
	} {
		if n := testing.AllocsPerRun(10, func() { b.trace(e, none, 0, 10) }); len(b.traced) != 0 || n != 0 && len(none) < 2 && none != nil && len(none[0].value) < 10 {
			t.Errorf("%v is traced, or costs %v allocations", none, n)
		}
	}
	unsampled := traceparent("00")
	if n := testing.AllocsPerRun(100, func() { b.trace(e, unsampled, 0, 10) }); n != 0 {
		t.Errorf("an event that is not sampled costs %v allocations", n)
	}
	one := traceparent("01")
	for range 10 * maxSpans {
		b.trace(e, one, 3, 10)
	}
	if len(b.traced) != maxSpans {
		t.Errorf("%d events of a transaction are traced", len(b.traced))
	}
}

// The relay's span is a producer's, a child of the writer's.
func TestTheRelaysSpanIsAChildOfTheWriters(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	r := &Relay{cfg: Config{Outbox: "shop", Tracer: provider.Tracer("test")}}
	b := newBatch(1)
	b.trace(&store.Event{Topic: "shop.orders", Key: "o-1"}, []pair{{headerTrace, "00-" + someTrace + "-00f067aa0ba902b7-01"}}, 3, 10)
	began := time.Now()
	r.spans(&commit{cursor: &cursor{T: 7}, traced: b.traced, began: began, ended: began.Add(time.Second)})
	got := spans.GetSpans()
	if len(got) != 1 {
		t.Fatalf("%d spans", len(got))
	}
	s := got[0]
	if s.Name != "send shop.orders" || s.SpanKind != trace.SpanKindProducer || s.SpanContext.TraceID().String() != someTrace ||
		s.Parent.SpanID().String() != "00f067aa0ba902b7" || s.EndTime.Sub(s.StartTime) != time.Second {
		t.Errorf("%+v", s)
	}
	said := fmt.Sprint(s.Attributes)
	for _, want := range []string{"kafka", "shop.orders", "o-1"} {
		if !strings.Contains(said, want) {
			t.Errorf("%s says nothing of %s", said, want)
		}
	}
}
