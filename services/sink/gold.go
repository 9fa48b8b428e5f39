package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse/gold"
	"github.com/millrace/millrace/consumers/warehouse/postgres"
)

// Gold configures the models of a warehouse.
type Gold struct {
	// Models is the folder of the models, one a file NAME.sql. Required.
	Models string `yaml:"models"`
	// Interval is how often the sink looks whether inputs have moved; no model is built more often. Default 1 min.
	Interval time.Duration `yaml:"interval"`
	// Timeout bounds the build of one model, its tests included. Default 10 min.
	Timeout time.Duration `yaml:"timeout"`
}

// check returns a *ConfigError about what is wrong by itself, or nil.
func (g Gold) check(k kind) error {
	switch {
	case g == Gold{}:
		return nil
	case k.role != Warehouse:
		return wrong("gold", "is for warehouses (duckdb, postgres)")
	case g.Models == "":
		return wrong("gold.models", "is missing: the folder of the models")
	case g.Interval < 0:
		return wrong("gold.interval", "%v is below 0", g.Interval)
	case g.Timeout < 0:
		return wrong("gold.timeout", "%v is below 0", g.Timeout)
	}
	return nil
}

// Graph returns the models of the sink, nil if it has none, or a *ConfigError. keep are the projections that it keeps.
func (c Config) Graph(keep []fold.Projection) (*gold.Graph, error) {
	if c.Gold.Models == "" {
		return nil, nil
	}
	models, err := gold.Load(c.Gold.Models)
	if err != nil {
		return nil, &ConfigError{"gold.models", err}
	}
	entities := make([]string, len(keep))
	for i, p := range keep {
		entities[i] = p.Entity()
	}
	graph, err := gold.NewGraph(models, entities)
	if err != nil {
		return nil, &ConfigError{"gold.models", err}
	}
	return graph, nil
}

// runner makes a runner of the sink's models. reg may be nil.
func (c Config) runner(graph *gold.Graph, engine gold.Engine, logger *slog.Logger, reg prometheus.Registerer) (*gold.Runner, error) {
	if reg != nil {
		reg = prometheus.WrapRegistererWith(prometheus.Labels{"sink": c.Name}, reg)
	}
	return gold.New(gold.Config{Engine: engine, Graph: graph, Interval: c.Gold.Interval, Timeout: c.Gold.Timeout, Logger: logger, Registerer: reg})
}

// startGold builds models beside the consumer until it is stopped. Nothing that goes wrong there stops the sink.
func (s *Sink) startGold(ctx context.Context, st *store) (stop func(), err error) {
	if s.graph == nil {
		return func() {}, nil
	}
	engine, err := st.backend.gold()
	if err != nil {
		return nil, err
	}
	metrics := prometheus.NewRegistry() // of this generation: another one makes its own
	r, err := s.cfg.runner(s.graph, engine, s.logger, metrics)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	s.register(metrics)
	s.setGold(gold.Handler(r, s.logger), r.Note)
	return func() {
		s.setGold(nil, nil)
		cancel()
		<-done
		s.unregister(metrics)
	}, nil
}

// buildModels builds every model of a generation that nobody reads yet.
func (s *Sink) buildModels(ctx context.Context, st *store) error {
	engine, err := st.backend.gold()
	if err != nil {
		return err
	}
	r, err := s.cfg.runner(s.graph, engine, s.logger, nil)
	if err != nil {
		return err
	}
	for _, m := range s.graph.Models {
		out, err := r.Build(ctx, m.Name, gold.Options{})
		if err != nil {
			return fmt.Errorf("build gold model %s for generation %d: %w", m.Name, st.number, err)
		}
		if out.State == "failed" {
			s.logger.Warn("a gold model cannot be built for the new generation", "model", m.Name, "generation", st.number, "err", out.Error)
		}
	}
	return nil
}

func (s *Sink) setGold(h http.Handler, note func() string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gold, s.goldNote = h, note
}

// GoldHandler shows and builds the sink's models; nil if it has none. Until the backend is open it answers 503.
func (s *Sink) GoldHandler() http.Handler {
	if s.graph == nil {
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		h, trouble := s.gold, s.trouble
		s.mu.Unlock()
		if h != nil {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": fmt.Sprintf("sink %s is not ready: %v", s.cfg.Name, trouble)})
	})
}

// ErrNoStore says that the sink has not made its store yet.
var ErrNoStore = errors.New("the warehouse is not there yet: its sink makes it when it runs")

// OpenGold opens the gold of a sink beside it, or in its place: a file belongs to one process, so that of duckdb must not be running
// (duckdb.ErrOpen). The caller closes.
func OpenGold(cfg Config, all []*projection.Projection, logger *slog.Logger) (*gold.Runner, io.Closer, error) {
	if err := errors.Join(cfg.Check(), cfg.Available()); err != nil {
		return nil, nil, err
	}
	keep, _, err := cfg.Resolve(all)
	if err != nil {
		return nil, nil, err
	}
	graph, err := cfg.Graph(keep)
	if err != nil {
		return nil, nil, err
	}
	if graph == nil {
		return nil, nil, wrong("gold", "is missing: the sink has no models")
	}
	engine, closer, err := openEngine(cfg, keep, logger)
	if err != nil {
		return nil, nil, err
	}
	r, err := cfg.runner(graph, engine, logger, nil)
	if err != nil {
		return nil, nil, errors.Join(err, closer.Close())
	}
	return r, closer, nil
}

func openEngine(cfg Config, keep []fold.Projection, logger *slog.Logger) (gold.Engine, io.Closer, error) {
	if cfg.Kind == "postgres" { // any process may connect, and none need open silver for that
		engine, err := postgres.OpenGold(postgres.Config{URL: cfg.URL, Schema: cfg.Schema, Logger: logger})
		return engine, io.NopCloser(nil), err
	}
	if _, err := os.Stat(cfg.Path); err != nil && cfg.generation <= 1 {
		return nil, nil, ErrNoStore
	}
	b, err := kinds[cfg.Kind].open(cfg, Parts{Logger: logger}, keep, logger)
	if err != nil {
		return nil, nil, err
	}
	engine, err := b.gold()
	if err != nil {
		return nil, nil, errors.Join(err, b.Close())
	}
	return engine, b, nil
}
