package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/consumers/verify"
	"github.com/millrace/millrace/services/internal/conf"
)

// Verify has a sink compared with its topics now and then.
type Verify struct {
	// Every is how often. Default: never by itself.
	Every time.Duration `yaml:"every"`
	// Sample is the share of keys that are looked at each time, others every time: 1/16. Default: all.
	Sample string `yaml:"sample"`
}

// check returns a *ConfigError about what is wrong by itself, or nil.
func (v Verify) check(k kind) error {
	switch {
	case v == Verify{}:
		return nil
	case k.role == Webhook:
		return wrong("verify", "is for sinks that hold something: a webhook does not")
	case v.Every <= 0:
		return wrong("verify.every", "is missing or below 0: how often, such as 1h")
	}
	if _, err := ReadSample(v.Sample); err != nil {
		return &ConfigError{"verify.sample", err}
	}
	return nil
}

// ReadSample reads a share of keys, 1/16, and returns its denominator; 1 for an empty one.
func ReadSample(text string) (uint64, error) { return conf.ParseShare(text) }

// verified is what a sink knows of its store for the sake of verifying it.
type verified struct {
	keeper *verify.Keeper

	mu sync.Mutex // guards the following
	// what is verified; ctx ends, and runs are waited for, before it is closed.
	cfg  *verify.Config
	ctx  context.Context
	runs *sync.WaitGroup
}

func newVerified(cfg Config, parts Parts, keep []fold.Projection, logger *slog.Logger) *verified {
	v := &verified{}
	if cfg.Role() == Webhook {
		return v
	}
	entities := make([]string, len(keep))
	for i, p := range keep {
		entities[i] = p.Entity()
	}
	v.keeper = verify.NewKeeper(cfg.Name, entities, v.live, logger, parts.Metrics)
	return v
}

// live returns the store that is verified. The context ends when it is about to be closed; release lets that happen.
func (v *verified) live(ctx context.Context) (verify.Config, context.Context, func(), error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cfg == nil {
		return verify.Config{}, nil, nil, verify.ErrNotReady
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(v.ctx, cancel)
	v.runs.Add(1)
	done := v.runs.Done
	return *v.cfg, ctx, func() { stop(); cancel(); done() }, nil
}

// verifies says that a store serves from now on, until stop is called: before it is closed.
func (s *Sink) verifies(ctx context.Context, store fold.Sink, keep []fold.Projection) (stop func()) {
	v := s.verified
	if v.keeper == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	runs := &sync.WaitGroup{}
	cfg := s.cfg.verify(s.parts, store, keep)
	v.mu.Lock()
	v.cfg, v.ctx, v.runs = &cfg, ctx, runs
	v.mu.Unlock()
	if every := s.cfg.Verify.Every; every > 0 {
		sample, _ := ReadSample(s.cfg.Verify.Sample) // it was checked
		runs.Go(func() { v.keeper.Every(ctx, every, sample) })
	}
	return func() {
		v.mu.Lock()
		if v.runs == runs {
			v.cfg = nil
		}
		v.mu.Unlock()
		cancel()
		runs.Wait()
	}
}

// verify says what is verified of a store.
func (c Config) verify(parts Parts, store fold.Sink, keep []fold.Projection) verify.Config {
	return verify.Config{
		Sink: c.Name, Store: store, Projections: keep, NoEvents: !c.KeepsEvents(), Kafka: parts.Kafka, Registry: parts.Registry, Catalogue: parts.Catalogue,
	}
}

// VerifyHandler compares the sink with its topics when it is asked; nil if it holds nothing to compare. Until the store is open it answers 503.
func (s *Sink) VerifyHandler() http.Handler {
	if s.verified.keeper == nil {
		return nil
	}
	return s.verified.keeper
}

// VerifyHere opens a sink's store beside its processes, or in their place, and compares it with its topics. A file belongs to one process: that of an embedded sink must
// not be running.
func VerifyHere(ctx context.Context, cfg Config, parts Parts, opts verify.Options) (r *verify.Result, err error) {
	if err := errors.Join(cfg.Check(), cfg.Available()); err != nil {
		return nil, err
	}
	parts.Metrics, cfg.metrics = nil, nil
	keep, _, err := cfg.Resolve(parts.Projections)
	if err != nil {
		return nil, err
	}
	if cfg.Rebuildable() == nil {
		if err := sameDeclarations(ctx, cfg, parts, keep); err != nil {
			return nil, err
		}
	}
	if cfg, err = Serving(ctx, cfg, parts.Kafka); err != nil {
		return nil, err
	}
	b, err := kinds[cfg.Kind].open(cfg, parts, keep, parts.Logger)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return verify.Run(ctx, cfg.verify(parts, b.sink, keep), opts)
}

// sameDeclarations refuses a generation that serves by others than the declarations that are configured: it is opened by them.
func sameDeclarations(ctx context.Context, cfg Config, parts Parts, keep []fold.Projection) error {
	rec, err := rebuild.Open(cfg.Name, parts.Kafka...).Read(ctx)
	if err != nil {
		return err
	}
	g := rec.Generations[rec.Serving]
	if g == nil {
		return nil
	}
	for _, p := range keep {
		if g.Digests[p.Entity()] != p.Digest() {
			return fmt.Errorf("the declaration of %s is not the one that serves: run the sink and verify it there, or rebuild it (millrace rebuild --plan %s)", p.Entity(), cfg.Name)
		}
	}
	return nil
}
