package opensearch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/consumers/fold"
)

// Sink is one generation of indices. It is safe for concurrent use.
type Sink struct {
	cfg     Config
	log     *slog.Logger
	client  *client
	names   names
	layouts map[string]*layout // by entity
	metrics *metrics

	bulks    chan struct{} // a slot for each bulk request under way
	searches chan struct{} // a slot for each search under way
	bodies   sync.Pool     // of *[]byte: bulk requests and their answers

	closed atomic.Bool
	crash  func(point string) error // tests stop a Commit here; nil otherwise
}

var (
	_ fold.Snapshotter  = (*Sink)(nil)
	_ fold.Generational = (*Sink)(nil)
)

// openTimeout bounds Open.
const openTimeout = 2 * time.Minute

// Open makes the indices, or finds those that the same declarations made. It fails with a systemic ErrDeclaration if others did, and
// with a systemic ErrLost if one of them is gone. A cluster that does not answer is no systemic error: try again.
func Open(cfg Config) (*Sink, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := names{prefix: cfg.Prefix, generation: cfg.Generation}
	layouts, err := newLayouts(n, cfg.Projections)
	if err != nil {
		return nil, err
	}
	cl, err := newClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("opensearch: %w", err)
	}
	s := &Sink{
		cfg: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registerer), client: cl, names: n, layouts: layouts,
		bulks: make(chan struct{}, cfg.MaxInFlight), searches: make(chan struct{}, cfg.MaxSearches),
		bodies: sync.Pool{New: func() any { return new([]byte) }},
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if err := s.prepare(ctx); err != nil {
		cl.close()
		return nil, fmt.Errorf("open search indices %s of generation %d: %w", cfg.Prefix, cfg.Generation, classify(err))
	}
	s.log.Info("search indices opened", "prefix", cfg.Prefix, "generation", cfg.Generation, "entities", len(layouts))
	return s, nil
}

// Close lets go of the connections. What is under way fails or ends by itself. A second Close does nothing.
func (s *Sink) Close() error {
	if !s.closed.Swap(true) {
		s.client.close()
	}
	return nil
}

func (s *Sink) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return ErrClosed
	}
	return nil
}

// buffer lends an empty buffer; give it back by the function.
func (s *Sink) buffer() (*[]byte, func()) {
	b := s.bodies.Get().(*[]byte)
	*b = (*b)[:0]
	return b, func() {
		if cap(*b) <= 2*s.cfg.BulkBytes {
			s.bodies.Put(b)
		}
	}
}

func (s *Sink) crashAt(point string) error {
	if s.crash == nil {
		return nil
	}
	return s.crash(point)
}
