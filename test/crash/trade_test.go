package crash

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/millrace/millrace/consumers/cache/client"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/services/shop"
)

// trade runs the shop for as long as it takes: a stretch of business after the other, some as fast as it goes, so that
// whoever comes back from the dead has much to do, some at a pace, so that it is killed doing little things.
type trade struct {
	w       *world
	rng     *rand.Rand
	cfg     shop.Config
	closing chan struct{}
	done    chan struct{}

	mu sync.Mutex // guards the following
	// past are the counts of the stretches that are over, now is the one that runs, last the one that ran last.
	past      shop.Progress
	now, last *shop.Shop
	err       error
}

func newTrade(w *world) *trade {
	w.t.Helper()
	catalogue, err := schemas.LoadDir(w.dir + "/schemas")
	if err != nil {
		w.t.Fatal(err)
	}
	w.states = w.openStates(catalogue)
	cache, err := client.New(client.Config{URL: w.redis, Prefix: w.cachePrefix()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cache.Close() })
	return &trade{
		w: w, rng: rand.New(rand.NewPCG(w.rng.Uint64(), 1)), closing: make(chan struct{}), done: make(chan struct{}),
		cfg: shop.Config{Pool: w.pool, Catalogue: catalogue, Cache: cache, Applied: shop.AppliedBy(w.states.sink.Load, w.states.columns["product"]), Logger: slog.New(slog.DiscardHandler), Views: 150},
	}
}

// open begins; the shop is open until close.
func (d *trade) open() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.w.t.Context()))
	d.w.t.Cleanup(func() { cancel(); <-d.done })
	go func() {
		defer close(d.done)
		for i := 0; d.isOpen() && ctx.Err() == nil; i++ {
			if err := d.stretch(ctx, i); err != nil {
				d.mu.Lock()
				d.err = err
				d.mu.Unlock()
				return
			}
		}
	}()
}

func (d *trade) isOpen() bool {
	select {
	case <-d.closing:
		return false
	default:
		return true
	}
}

// stretch is one run of the shop: every third is a burst.
func (d *trade) stretch(ctx context.Context, i int) error {
	events, rate := 1500+d.rng.IntN(3000), 0
	if i%3 != 0 {
		events, rate = events/2, 200+d.rng.IntN(600)
	}
	return d.business(ctx, events, rate)
}

// business runs the shop for so many events, so many a second.
func (d *trade) business(ctx context.Context, events, rate int) error {
	cfg := d.cfg
	cfg.Seed, cfg.Events, cfg.Rate = d.rng.Uint64(), int64(events), float64(rate)
	s, err := d.newShop(ctx, cfg)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.now, d.last = s, s
	d.mu.Unlock()
	if err := s.Run(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.past, d.now = add(d.past, s.Progress()), nil
	if stale := s.Stale(); len(stale) > 0 {
		return fmt.Errorf("promise 4: stale pages were shown, such as %+v", stale[0])
	}
	return nil
}

// shopPatience is how long the database may be away while a stretch begins, as the shop has it for one that runs.
const shopPatience = time.Minute

// newShop opens the shop, waiting for a database that is being killed and started again.
func (d *trade) newShop(ctx context.Context, cfg shop.Config) (*shop.Shop, error) {
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for until := time.Now().Add(shopPatience); ; {
		s, err := shop.New(ctx, cfg)
		if err == nil || time.Now().After(until) {
			return s, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

func add(a, b shop.Progress) shop.Progress {
	return shop.Progress{
		Events: a.Events + b.Events, Transactions: a.Transactions + b.Transactions, RolledBack: a.RolledBack + b.RolledBack,
		Retried: a.Retried + b.Retried, Views: a.Views + b.Views, Hits: a.Hits + b.Hits, Stale: a.Stale + b.Stale,
	}
}

// progress is what happened so far, and what went wrong.
func (d *trade) progress() (shop.Progress, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.past
	if d.now != nil {
		p = add(p, d.now.Progress())
	}
	return p, d.err
}

// mustTrade fails the test if the shop has ended.
func (d *trade) mustTrade() shop.Progress {
	d.w.t.Helper()
	p, err := d.progress()
	if err != nil {
		d.w.t.Fatalf("the shop: %v", err)
	}
	return p
}

// close lets the stretch that runs come to its end.
func (d *trade) close() {
	d.w.t.Helper()
	close(d.closing)
	<-d.done
	p := d.mustTrade()
	d.w.t.Logf("%d events in %d transactions, %d rolled back, %d lost with their server", p.Events, p.Transactions, p.RolledBack, p.Retried)
}

// calm is business so slow that pages stay in the cache: most that a busy shop leaves behind are invalidated a moment later.
func (d *trade) calm() {
	d.w.t.Helper()
	if err := d.business(d.w.t.Context(), 100, 50); err != nil {
		d.w.t.Fatalf("the shop: %v", err)
	}
}
