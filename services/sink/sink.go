package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse/gold"
	"github.com/millrace/millrace/schemas"
)

// Parts are what a program gives a sink to work with.
type Parts struct {
	// Kafka are the options that reach the brokers.
	Kafka []kgo.Opt
	// Registry resolves schema ids.
	Registry consumers.Registry
	// Catalogue holds the reader's schemas.
	Catalogue *schemas.Catalogue
	// Projections are all that are declared; the sink takes its own.
	Projections []*projection.Projection
	// Logger takes changes of state; lines carry the name of the sink.
	Logger *slog.Logger
	// Tracer makes the consumer's spans; nil for none.
	Tracer trace.Tracer
	// Metrics takes the metrics of the consumer, of the fold and of the backend, each with the name of the sink; nil: kept nowhere.
	Metrics prometheus.Registerer
}

// Sink is one running consumer.
type Sink struct {
	cfg    Config
	parts  Parts
	logger *slog.Logger // Parts.Logger with the name of the sink
	keep   []fold.Projection
	topics []string
	graph  *gold.Graph // nil if it has no models

	verified *verified

	mu sync.Mutex // guards the following
	// consumer, folder and handler are nil until the backend is open.
	consumer *consumers.Consumer
	folder   *fold.Fold
	handler  http.Handler
	gold     http.Handler
	// trouble is why there is no consumer.
	trouble error
}

// Pauses between attempts to open a backend that is away.
const (
	openRetryMin = 200 * time.Millisecond
	openRetryMax = 10 * time.Second
)

var errStarting = errors.New("starting")

// New checks the configuration against the declarations; what is wrong with it is a *ConfigError. Nothing is opened before Run.
func New(cfg Config, parts Parts) (*Sink, error) {
	if err := errors.Join(cfg.Check(), cfg.Available()); err != nil {
		return nil, err
	}
	keep, topics, err := cfg.Resolve(parts.Projections)
	if err != nil {
		return nil, err
	}
	graph, err := cfg.Graph(keep)
	if err != nil {
		return nil, err
	}
	return &Sink{cfg: cfg, parts: parts, logger: parts.Logger.With("sink", cfg.Name), keep: keep, topics: topics, graph: graph, trouble: errStarting,
		verified: newVerified(cfg, parts, keep, parts.Logger.With("sink", cfg.Name))}, nil
}

// Run opens the backend, waiting for one that is away, and consumes until ctx ends. It returns early with an error that does
// not pass by itself; nothing is lost by that.
func (s *Sink) Run(ctx context.Context) error {
	b, err := s.open(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	stop, err := s.startGold(ctx, b)
	if err == nil {
		unverified := s.verifies(ctx, b.sink, s.keep)
		err = s.consume(ctx, b)
		unverified()
		stop()
	}
	s.set(nil, nil, nil, err)
	return errors.Join(err, b.Close())
}

// open opens the backend. While it is away, one line says so and another that it is back.
func (s *Sink) open(ctx context.Context) (backend, error) {
	pause := openRetryMin
	for told := false; ; {
		cfg, metrics := s.cfg, prometheus.NewRegistry()
		cfg.metrics = metrics // of this attempt: another one makes its own
		b, err := kinds[s.cfg.Kind].open(cfg, s.parts, s.keep, s.logger)
		if err == nil {
			if err := s.expose(metrics); err != nil {
				return backend{}, errors.Join(err, b.Close())
			}
			if told {
				s.logger.Info("the sink's store is back")
			}
			return b, nil
		}
		s.set(nil, nil, nil, err)
		if consumers.Classify(err) == consumers.Systemic {
			return backend{}, err
		}
		if !told {
			s.logger.Warn("the sink's store is away; it is tried again", "err", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return backend{}, nil
		case <-time.After(pause):
			pause = min(2*pause, openRetryMax)
		}
	}
}

// expose adds the backend's metrics to the program's.
func (s *Sink) expose(metrics prometheus.Collector) error {
	if s.parts.Metrics == nil {
		return nil
	}
	if err := prometheus.WrapRegistererWith(prometheus.Labels{"sink": s.cfg.Name}, s.parts.Metrics).Register(metrics); err != nil {
		return consumers.AsSystemic(fmt.Errorf("register the metrics of %s: %w", s.cfg.Kind, err))
	}
	return nil
}

func (s *Sink) consume(ctx context.Context, b backend) error {
	letters, err := consumers.NewDeadLetterProducer(s.cfg.Name, s.parts.Kafka...)
	if err != nil {
		return err
	}
	folder, err := fold.New(fold.Config{
		Name: s.cfg.Name, Sink: b.sink, Projections: s.keep, DeadLetters: letters, CacheBytes: int64(s.cfg.StateCache), Logger: s.parts.Logger, Registerer: s.parts.Metrics,
	})
	if err != nil {
		return errors.Join(err, letters.Close())
	}
	cfg := consumers.Config{
		Name: s.cfg.Name, Group: Group(s.cfg.Name), Topics: s.topics, Kafka: s.parts.Kafka, Registry: s.parts.Registry,
		Catalogue: s.parts.Catalogue, SessionTimeout: s.cfg.sessionTimeout(), Logger: s.parts.Logger, Registerer: s.parts.Metrics,
		Tracer: s.parts.Tracer,
	}
	s.cfg.bounds(&cfg)
	c, err := consumers.New(cfg, folder)
	if err != nil {
		return errors.Join(err, letters.Close())
	}
	s.set(c, folder, b.handler, nil)
	return c.Run(ctx) // closes folder, and folder the letters
}

func (s *Sink) set(c *consumers.Consumer, f *fold.Fold, h http.Handler, trouble error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumer, s.folder, s.handler, s.trouble = c, f, h, trouble
}

func (s *Sink) current() (*consumers.Consumer, http.Handler, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.consumer, s.handler, s.trouble
}

// Ready returns what keeps the sink from doing its work; nil when nothing does.
func (s *Sink) Ready() error {
	c, _, trouble := s.current()
	if c == nil {
		return trouble
	}
	return c.Health()
}

// Note says what a person may want to know of a sink that works: that keys wait behind events which could not be applied. It is empty
// otherwise.
func (s *Sink) Note() string {
	s.mu.Lock()
	f := s.folder
	s.mu.Unlock()
	if f == nil {
		return ""
	}
	switch n := f.QuarantinedKeys(); n {
	case 0:
		return ""
	case 1:
		return "1 key waits behind an event that could not be applied: millrace dlq list --keys --sink " + s.cfg.Name
	default:
		return fmt.Sprintf("%d keys wait behind events that could not be applied: millrace dlq list --keys --sink %s", n, s.cfg.Name)
	}
}

// Status returns what the consumer says of itself, for JSON.
func (s *Sink) Status() any {
	c, _, trouble := s.current()
	if c == nil {
		return map[string]string{"trouble": fmt.Sprint(trouble)}
	}
	return c.Status()
}

// Path is the last part of the path under which Handler answers: "sql", "search" or "".
func (s *Sink) Path() string { return kinds[s.cfg.Kind].serves }

// Handler answers questions to the backend; nil if this kind answers none. Until the backend is open it answers 503.
func (s *Sink) Handler() http.Handler {
	if s.Path() == "" {
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, h, trouble := s.current(); h != nil {
			h.ServeHTTP(w, r)
		} else {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": fmt.Sprintf("sink %s is not ready: %v", s.cfg.Name, trouble)})
		}
	})
}
