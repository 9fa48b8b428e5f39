package rebuild

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Group is the consumer group that feeds a generation of a sink.
func Group(sink string, generation int) string {
	if generation <= 1 {
		return "millrace." + sink
	}
	return fmt.Sprintf("millrace.%s.g%d", sink, generation)
}

// FeedConfig is what feeding a generation needs. The Feed sets what makes the one that serves different from the others.
type FeedConfig struct {
	// Generation is its number.
	Generation int
	// Consumer and Fold are those of the sink. Group, Attends, DeadLetters and Registerer are the Feed's.
	Consumer consumers.Config
	Fold     fold.Config
	// Allowed says whether the generation is to be fed by this process; an error says why not. It is asked with every claim of a partition, after the store has taken it.
	Allowed func(ctx context.Context) error
	// Register and Unregister take the metrics of the generation that serves; nil: they are kept nowhere.
	Register, Unregister func(*Metered)
}

// Feed is a generation being fed: a consumer and a fold. One that is Behind the serving one has no effects but in its store.
type Feed struct {
	cfg      FeedConfig
	fold     *fold.Fold
	consumer *consumers.Consumer
	metered  *Metered
	letters  *letters
	serving  atomic.Bool
	pace     *pace
	since    map[consumers.TopicPartition]int64 // where a generation without a position begins; nil at the beginning
	applied  atomic.Int64

	stop context.CancelFunc
	done chan struct{}

	mu  sync.Mutex // guards the following
	err error
}

// StartFeed feeds the generation that serves.
func StartFeed(ctx context.Context, cfg FeedConfig) (*Feed, error) {
	f, err := newFeed(cfg, nil, newPace())
	if err != nil {
		return nil, err
	}
	f.Serve()
	f.run(ctx)
	return f, nil
}

// newFeed makes a feed that does not serve. decided is what was decided about dead letters.
func newFeed(cfg FeedConfig, decided *decisions, p *pace) (*Feed, error) {
	real, err := consumers.NewDeadLetterProducer(cfg.Fold.Name, cfg.Consumer.Kafka...)
	if err != nil {
		return nil, err
	}
	f := &Feed{cfg: cfg, metered: newMetered(), pace: p, done: make(chan struct{})}
	f.letters = &letters{real: real, decided: decided, serving: &f.serving}
	cfg.Fold.DeadLetters, cfg.Fold.Registerer = f.letters, f.metered.registry
	cfg.Consumer.Group, cfg.Consumer.Registerer = Group(cfg.Consumer.Name, cfg.Generation), f.metered.registry
	cfg.Consumer.Attends = f.serving.Load
	if f.fold, err = fold.New(cfg.Fold); err != nil {
		return nil, errors.Join(err, real.Close())
	}
	if f.consumer, err = consumers.New(cfg.Consumer, &gate{f.fold, f}); err != nil {
		return nil, errors.Join(err, real.Close())
	}
	return f, nil
}

func (f *Feed) run(ctx context.Context) {
	ctx, f.stop = context.WithCancel(ctx)
	f.pace.until(ctx)
	go func() {
		defer close(f.done)
		err := f.consumer.Run(ctx) // closes the fold, and the fold the letters
		if f.serving.Load() && f.cfg.Unregister != nil {
			f.cfg.Unregister(f.metered)
		}
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
	}()
}

// Serve makes the feed that of the generation which serves: its dead letters are written, what is asked about them is carried out, its metrics are shown, and it runs as fast as it can.
func (f *Feed) Serve() {
	if f.serving.Swap(true) {
		return
	}
	f.pace.free()
	f.consumer.Release()
	f.consumer.Attend()
	if f.cfg.Register != nil {
		f.cfg.Register(f.metered)
	}
}

// Done is closed when the feed has ended; Err says why.
func (f *Feed) Done() <-chan struct{} { return f.done }

// Err is what ended the feed; nil if it was stopped, or runs.
func (f *Feed) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Stop ends the feed and waits for it: the batches in hand are finished.
func (f *Feed) Stop() {
	f.stop()
	<-f.done
}

// Consumer and Fold are what works.
func (f *Feed) Consumer() *consumers.Consumer { return f.consumer }

// Fold is the feed's fold.
func (f *Feed) Fold() *fold.Fold { return f.fold }

// gate is the Processor: the fold, for a generation that this process may feed.
type gate struct {
	*fold.Fold
	f *Feed
}

var (
	_ consumers.Processor   = (*gate)(nil)
	_ consumers.FieldReader = (*gate)(nil)
	_ consumers.Redriver    = (*gate)(nil)
)

// Claim claims a partition and asks afterwards whether the generation is still to be fed.
//
// Promise 8: a swap is recorded first, and then every partition of the old generation is claimed. Whoever claims later asks later, and is refused; whoever claimed before is fenced. So nothing
// moves the old generation any more when the new one is compared with it.
func (g *gate) Claim(ctx context.Context, tp consumers.TopicPartition) (int64, error) {
	next, err := g.Fold.Claim(ctx, tp)
	if err != nil {
		return next, err
	}
	if err := g.f.cfg.Allowed(ctx); err != nil {
		return 0, fmt.Errorf("generation %d: %w", g.f.cfg.Generation, err)
	}
	if since, ok := g.f.since[tp]; ok && next < 0 {
		next = since
	}
	return next, nil
}

// Process applies a batch at the pace of the feed, with what was decided about dead letters.
func (g *gate) Process(ctx context.Context, b consumers.Batch) error {
	if g.f.serving.Load() {
		return g.Fold.Process(ctx, b)
	}
	if err := g.f.pace.wait(ctx, len(b.Events)); err != nil {
		return err
	}
	if err := g.f.letters.process(ctx, g.Fold, b); err != nil {
		return err
	}
	g.f.applied.Add(int64(len(b.Events)))
	return nil
}
