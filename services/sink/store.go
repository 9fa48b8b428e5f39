package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/rebuild"
)

// store is an open generation of the sink. Whoever uses it holds a share; it is closed with the last one.
type store struct {
	s      *Sink
	number int
	backend
	// declared is what it is built by, keep the compiled declarations and topics those that it follows.
	declared rebuild.Generation
	keep     []fold.Projection
	topics   []string
	metrics  *prometheus.Registry
	effects  *atomic.Bool // whether what leaves the store (purges) does

	shares int // guarded by shelf.mu
}

// shelf holds the generations that this process has open. A file belongs to one process, and is opened once in it.
type shelf struct {
	opening sync.Mutex // held while a store is opened or closed; mu may be taken under it

	mu   sync.Mutex // guards the following
	open map[int]*store
}

// get returns a share of a generation.
func (f *shelf) get(number int, open func() (*store, error)) (*store, error) {
	f.opening.Lock()
	defer f.opening.Unlock()
	if st := f.find(number); st != nil {
		return st, nil
	}
	st, err := open()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st.shares, f.open[number] = 1, st
	return st, nil
}

// find returns a share of a generation that is open; nil if it is not.
func (f *shelf) find(number int) *store {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.open[number]
	if st != nil {
		st.shares++
	}
	return st
}

// put gives a share back.
func (f *shelf) put(st *store) error {
	f.mu.Lock()
	st.shares--
	left := st.shares
	f.mu.Unlock()
	if left > 0 {
		return nil
	}
	f.opening.Lock()
	defer f.opening.Unlock()
	f.mu.Lock()
	last := st.shares == 0 && f.open[st.number] == st // nobody has found it meanwhile
	if last {
		delete(f.open, st.number)
	}
	f.mu.Unlock()
	if !last {
		return nil
	}
	return st.backend.Close()
}

// make opens a generation by compiled declarations.
func (s *Sink) make(number int, building bool, d declarations) (*store, error) {
	cfg, metrics := s.cfg, prometheus.NewRegistry()
	effects := new(atomic.Bool)
	cfg.metrics, cfg.generation, cfg.building, cfg.effects = metrics, number, building, effects
	b, err := kinds[s.cfg.Kind].open(cfg, s.parts, d.keep, s.logger)
	if err != nil {
		return nil, err
	}
	return &store{s: s, number: number, backend: b, declared: d.generation, keep: d.keep, topics: d.topics, metrics: metrics, effects: effects}, nil
}

// declarations are those of a generation, compiled.
type declarations struct {
	generation rebuild.Generation
	keep       []fold.Projection
	topics     []string
}

// declare resolves declarations.
func (s *Sink) declare(all []*projection.Projection) (declarations, error) {
	keep, topics, err := s.cfg.Resolve(all)
	if err != nil {
		return declarations{}, err
	}
	d := declarations{generation: rebuild.Generation{Projections: map[string]string{}, Digests: map[string]string{}}, keep: keep, topics: topics}
	for _, p := range keep {
		d.generation.Digests[p.Entity()] = p.Digest()
		if p, ok := p.(*projection.Projection); ok {
			name := path.Base(p.File())
			if _, taken := d.generation.Projections[name]; taken {
				name = p.Entity() + "/" + name
			}
			d.generation.Projections[name] = p.Text()
		}
	}
	return d, nil
}

// recorded compiles the declarations of a generation's record.
func (s *Sink) recorded(g *rebuild.Generation) (declarations, error) {
	var all []*projection.Projection
	for _, name := range slices.Sorted(maps.Keys(g.Projections)) {
		p, err := projection.Parse(name, []byte(g.Projections[name]), s.parts.Catalogue)
		if err != nil {
			return declarations{}, consumers.AsSystemic(fmt.Errorf("compile the declarations that the generation was built by (what they need of the schemas has to stay as long as the generation does): %w", err))
		}
		all = append(all, p)
	}
	d, err := s.declare(all)
	if err != nil {
		return d, consumers.AsSystemic(err)
	}
	return d, nil
}

// changed are the entities whose declaration differs, in order.
func changed(a, b rebuild.Generation) []string {
	all := map[string]bool{}
	for _, digests := range []map[string]string{a.Digests, b.Digests} {
		for e := range digests {
			if a.Digests[e] != b.Digests[e] {
				all[e] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Sink implements rebuild.Store.
func (st *store) Sink() fold.Sink { return st.backend.sink }

// Projections implements rebuild.Store.
func (st *store) Projections() []fold.Projection { return st.keep }

// Effects implements rebuild.Store.
func (st *store) Effects(on bool) { st.effects.Store(on) }

// Close implements rebuild.Store.
func (st *store) Close() error { return st.s.shelf.put(st) }

// Feed implements rebuild.Store.
func (st *store) Feed() rebuild.FeedConfig {
	s := st.s
	cfg := consumers.Config{
		Name: s.cfg.Name, Topics: st.topics, Kafka: s.parts.Kafka, Registry: s.parts.Registry, Catalogue: s.parts.Catalogue,
		SessionTimeout: s.cfg.sessionTimeout(), Logger: s.parts.Logger, Tracer: s.parts.Tracer,
	}
	s.cfg.bounds(&cfg)
	return rebuild.FeedConfig{
		Generation: st.number, Consumer: cfg,
		Fold:     fold.Config{Name: s.cfg.Name, Sink: st.backend.sink, Projections: st.keep, CacheBytes: int64(s.cfg.StateCache), Logger: s.parts.Logger},
		Register: func(m *rebuild.Metered) { s.register(m) }, Unregister: func(m *rebuild.Metered) { s.unregister(m) },
	}
}

// finisher is a backend that puts off what costs most while a generation is built, and does it before anybody waits for the swap.
type finisher interface {
	Finish(ctx context.Context) error
}

// Prepare implements rebuild.Store: what was put off is done, and the models of a warehouse that keeps them beside its states are built, before anybody reads
// them.
func (st *store) Prepare(ctx context.Context) error {
	if f, ok := st.backend.sink.(finisher); ok {
		if err := f.Finish(ctx); err != nil {
			return err
		}
	}
	if st.s.graph == nil || st.backend.gold == nil {
		return nil
	}
	return st.s.buildModels(ctx, st)
}

func (s *Sink) register(c prometheus.Collector) {
	if s.parts.Metrics == nil {
		return
	}
	if err := s.parts.Metrics.Register(c); err != nil {
		s.logger.Error("metrics are not shown", "err", err)
	}
}

func (s *Sink) unregister(c prometheus.Collector) {
	if s.parts.Metrics != nil {
		s.parts.Metrics.Unregister(c)
	}
}

// serveHTTP answers from the store, which stays open meanwhile.
func (st *store) serveHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if err := st.Close(); err != nil {
			st.s.logger.Error("the store of a former generation is not closed", "generation", st.number, "err", err)
		}
	}()
	st.backend.handler.ServeHTTP(w, r)
}

// Serving returns the configuration of the generation that serves, for who opens a store beside the sink's processes or in their place.
func Serving(ctx context.Context, cfg Config, kafka []kgo.Opt) (Config, error) {
	if cfg.Rebuildable() != nil || len(kafka) == 0 {
		return cfg, nil
	}
	rec, err := rebuild.Open(cfg.Name, kafka...).Read(ctx)
	if err != nil {
		return cfg, fmt.Errorf("ask which generation of sink %s serves: %w", cfg.Name, err)
	}
	cfg.generation = rec.Serving
	if rec.At.IsZero() { // the record may be lost
		n, err := cfg.lost(ctx)
		if err != nil {
			return cfg, err
		}
		cfg.generation = max(n, 1)
	}
	return cfg, nil
}

var errNoRebuild = errors.New("it has no state of its own: there is nothing to rebuild")

// Rebuildable says why a sink of this configuration cannot be rebuilt; nil if it can.
func (c Config) Rebuildable() error {
	if c.Role() == Webhook {
		return fmt.Errorf("sink %s is a webhook: %w", c.Name, errNoRebuild)
	}
	return nil
}
