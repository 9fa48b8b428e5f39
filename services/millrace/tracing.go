package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracing says where spans go. Events whose writer traces them (header traceparent, sampled) get a span in the relay and one in each
// sink.
type Tracing struct {
	// OTLP is the URL that spans are sent to, OTLP over HTTP, such as http://localhost:4318/v1/traces. Default: there are none.
	OTLP string `yaml:"otlp"`
	// Sample is the share of the writers' sampled traces that get spans, by trace id, so that a trace has all of them or none. Above
	// 0, at most 1. Default 1.
	Sample float64 `yaml:"sample"`
}

const (
	// flushSpans is how long the last spans may take when the process ends.
	flushSpans = 5 * time.Second
	// tellTracing is how often it is logged that spans do not arrive.
	tellTracing = 10 * time.Minute
)

func (c *Config) validateTracing() error {
	t := &c.Tracing
	if t.OTLP == "" {
		if t.Sample != 0 {
			return c.file.Errorf("tracing.otlp", "is missing: the URL that spans are sent to, such as http://localhost:4318/v1/traces")
		}
		return nil
	}
	if u, err := url.Parse(t.OTLP); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return c.file.Errorf("tracing.otlp", "is no URL such as http://localhost:4318/v1/traces")
	}
	if t.Sample == 0 {
		t.Sample = 1
	}
	if !(t.Sample > 0 && t.Sample <= 1) {
		return c.file.Errorf("tracing.sample", "is %v, not above 0 and at most 1", t.Sample)
	}
	return nil
}

// tracer returns what makes spans, nil where none are wanted, and what sends the last of them.
func (t Tracing) tracer(ctx context.Context, logger *slog.Logger) (trace.Tracer, func(), error) {
	if t.OTLP == "" {
		return nil, func() {}, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(t.OTLP))
	if err != nil {
		return nil, nil, fmt.Errorf("tracing.otlp: %w", err)
	}
	otel.SetErrorHandler(&tracingErrors{logger: logger})
	made := resource.NewSchemaless(attribute.String("service.name", "millrace"), attribute.String("service.version", version))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(made), sdktrace.WithSampler(t.sampler()))
	return provider.Tracer("github.com/millrace/millrace"), func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushSpans)
		defer cancel()
		if err := provider.Shutdown(stop); err != nil {
			logger.Warn("the last spans were not sent", "err", err)
		}
	}, nil
}

// sampler takes a share of what the writers sample, and nothing else.
func (t Tracing) sampler() sdktrace.Sampler {
	return sdktrace.ParentBased(sdktrace.NeverSample(), sdktrace.WithRemoteParentSampled(sdktrace.TraceIDRatioBased(t.Sample)),
		sdktrace.WithRemoteParentNotSampled(sdktrace.NeverSample()))
}

// tracingErrors logs, now and then, that spans do not arrive: nothing else depends on them.
type tracingErrors struct {
	logger *slog.Logger
	mu     sync.Mutex // guards the following
	told   time.Time
}

// Handle implements otel.ErrorHandler.
func (h *tracingErrors) Handle(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.told) < tellTracing {
		return
	}
	h.told = time.Now()
	h.logger.Warn("spans were not sent, they are dropped", "err", hideURL(err.Error()))
}
