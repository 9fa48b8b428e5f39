package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/rebuild"
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
	cfg      Config
	parts    Parts
	logger   *slog.Logger // Parts.Logger with the name of the sink
	declared declarations // as it is configured
	topics   []string
	graph    *gold.Graph // nil if it has no models
	shelf    shelf
	opened   chan struct{} // closed when a store was open for the first time
	once     sync.Once     // closes opened

	verified *verified

	mu sync.Mutex // guards the following
	// shown is the store that answers, nil until it is open, and feed what feeds it, nil while nothing does.
	shown *store
	feed  *rebuild.Feed
	gold  http.Handler
	// goldNote says what is wrong with the models; nil while nothing builds them.
	goldNote func() string
	// trouble is why there is no store, or why it is not fed.
	trouble error
	record  rebuild.Record
	offered *offer
	// away says that the store was away at the last attempt; pause is that before the next one.
	away  bool
	pause time.Duration
}

// Pauses between attempts to open a backend that is away.
const (
	openRetryMin = 200 * time.Millisecond
	openRetryMax = 10 * time.Second
)

var (
	errStarting = errors.New("starting")
	errStopping = errors.New("stopping")
)

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
	s := &Sink{
		cfg: cfg, parts: parts, logger: parts.Logger.With("sink", cfg.Name), topics: topics, graph: graph, trouble: errStarting,
		shelf: shelf{open: map[int]*store{}}, opened: make(chan struct{}), verified: newVerified(cfg, parts, keep, parts.Logger.With("sink", cfg.Name)),
	}
	s.declared, err = s.declare(parts.Projections)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Run opens the generation that serves, waiting for a store that is away, and consumes until ctx ends. It returns early with an error that does
// not pass by itself; nothing is lost by that.
func (s *Sink) Run(ctx context.Context) error { return s.supervise(ctx) }

// later says when to try again what has failed. While a store is away, one line says so and another that it is back.
func (s *Sink) later(err error) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.away {
		s.away, s.pause = true, openRetryMin
		s.logger.Warn("the sink's store is away; it is tried again", "err", err)
		return s.pause
	}
	s.pause = min(2*s.pause, openRetryMax)
	return s.pause
}

// show shows what serves, and what is in its way.
func (s *Sink) show(l *live, trouble error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown, s.feed, s.trouble = nil, nil, trouble
	if l == nil {
		return
	}
	s.shown, s.feed = l.store, l.feed
	s.once.Do(func() { close(s.opened) })
	if s.away && trouble == nil {
		s.away = false
		s.logger.Info("the sink's store is back")
	}
}

// untilOpen waits until a store was open. It returns false if ctx ends before that.
func (s *Sink) untilOpen(ctx context.Context) bool {
	select {
	case <-s.opened:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell takes over what is known of the generations.
func (s *Sink) tell(rec rebuild.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = rec
}

// Ready returns what keeps the sink from doing its work; nil when nothing does.
func (s *Sink) Ready() error {
	s.mu.Lock()
	feed, trouble := s.feed, s.trouble
	s.mu.Unlock()
	if feed == nil || trouble != nil {
		return trouble
	}
	return feed.Consumer().Health()
}

// Note says what a person may want to know of a sink that works: that keys wait behind events which could not be applied, that gold models have stopped, that its declarations have changed, how
// far a rebuild is. It is empty otherwise.
func (s *Sink) Note() string {
	s.mu.Lock()
	shown, feed, b, models := s.shown, s.feed, s.record.Rebuild, s.goldNote
	s.mu.Unlock()
	var notes []string
	if models != nil {
		notes = append(notes, models())
	}
	if feed != nil {
		notes = append(notes, s.quarantined(feed.Fold().QuarantinedKeys()))
	}
	if shown != nil {
		notes = append(notes, s.outdated(shown))
	}
	if b != nil {
		notes = append(notes, fmt.Sprintf("a rebuild is %s: millrace rebuild status %s", b.State, s.cfg.Name))
	}
	return strings.Join(slices.DeleteFunc(notes, func(n string) bool { return n == "" }), "; ")
}

func (s *Sink) quarantined(keys int) string {
	switch keys {
	case 0:
		return ""
	case 1:
		return "1 key waits behind an event that could not be applied: millrace dlq list --keys --sink " + s.cfg.Name
	default:
		return fmt.Sprintf("%d keys wait behind events that could not be applied: millrace dlq list --keys --sink %s", keys, s.cfg.Name)
	}
}

// status is what a sink says of itself.
type status struct {
	consumers.Status
	// Generation is the one that serves, and Rebuild the state of the rebuild under way.
	Generation int           `json:"generation,omitempty"`
	Rebuild    rebuild.State `json:"rebuild,omitempty"`
}

// Status returns what the consumer says of itself, for JSON.
func (s *Sink) Status() any {
	s.mu.Lock()
	feed, trouble, rec := s.feed, s.trouble, s.record
	s.mu.Unlock()
	if feed == nil && trouble != nil {
		return map[string]string{"trouble": fmt.Sprint(trouble)}
	}
	out := status{Status: consumers.Status{Name: s.cfg.Name, Partitions: []consumers.PartitionStatus{}}, Generation: rec.Serving}
	if rec.Rebuild != nil {
		out.Rebuild = rec.Rebuild.State
	}
	if feed != nil {
		out.Status = feed.Consumer().Status()
	}
	return out
}

// Path is the last part of the path under which Handler answers: "sql", "search" or "".
func (s *Sink) Path() string { return kinds[s.cfg.Kind].serves }

// Handler answers questions to the backend; nil if this kind answers none. Until the backend is open it answers 503.
func (s *Sink) Handler() http.Handler {
	if s.Path() == "" {
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st, trouble := s.reader()
		if st != nil {
			st.serveHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": fmt.Sprintf("sink %s is not ready: %v", s.cfg.Name, trouble)})
	})
}

// reader returns a share of the store that answers; nil if there is none, and why.
func (s *Sink) reader() (*store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown == nil {
		return nil, s.trouble
	}
	if st := s.shelf.find(s.shown.number); st != nil {
		return st, s.trouble
	}
	return nil, errStopping
}
