package shop

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// pageLife is how long a page stays in the cache if nobody invalidates it: far longer than a run.
const pageLife = 24 * time.Hour

// pageKey is the cache key of a product's page, as schemas/shop/projections/product.yaml declares it.
func pageKey(id string) string { return "product:" + id }

// StalePage is a page from the cache that was shown after its invalidation.
type StalePage struct {
	ProductID string
	// Shown is the row version on the page, Known the one up to which the cache was invalidated before the page was asked for.
	Shown, Known int64
}

type staleLog struct {
	mu    sync.Mutex // guards the following
	pages []StalePage
}

// maxStale bounds what is remembered.
const maxStale = 100

func (l *staleLog) add(p StalePage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pages) < maxStale {
		l.pages = append(l.pages, p)
	}
}

func (l *staleLog) list() []StalePage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.pages)
}

// visit looks at one price page after the other on behalf of visitor i, until the context ends.
func (s *Shop) visit(ctx context.Context, i int, views *pace) error {
	rng := rand.New(rand.NewPCG(s.cfg.Seed, 1<<33+uint64(i)))
	for views.wait(ctx, 1) == nil {
		if err := s.view(ctx, productID(hot(rng, s.cfg.Products))); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Debug("a visitor got no page", "err", err) // an outage shows with the workers; a visitor tries the next page
			if pause(ctx, retryPause) != nil {
				break
			}
		}
	}
	return nil
}

// view shows one page, and notices when it is older than what the cache is known to be invalidated up to.
func (s *Shop) view(ctx context.Context, id string) error {
	known, check := int64(0), false
	if s.cfg.Applied != nil {
		var err error
		if known, check, err = s.cfg.Applied(ctx, id); err != nil { // asked before the page is: later invalidations do not count
			return fmt.Errorf("ask how far the cache is invalidated: %w", err)
		}
	}
	shown, hit, err := s.fetch(ctx, id)
	if err != nil {
		return err
	}
	s.counters.views.Add(1)
	if hit {
		s.counters.hits.Add(1)
	}
	if hit && check && shown.RowVersion < known {
		s.counters.stale.Add(1)
		s.stale.add(StalePage{ProductID: id, Shown: shown.RowVersion, Known: known})
	}
	return nil
}

// fetch gets a page through the cache, as applications do.
func (s *Shop) fetch(ctx context.Context, id string) (p page, hit bool, err error) {
	value, hit, err := s.cfg.Cache.Fetch(ctx, pageKey(id), pageLife, func(ctx context.Context) ([]byte, error) {
		p, err := s.readPage(ctx, id)
		if err != nil {
			return nil, err
		}
		return json.Marshal(p)
	})
	if err != nil {
		return page{}, false, fmt.Errorf("page of %s: %w", id, err)
	}
	if err := json.Unmarshal(value, &p); err != nil {
		return page{}, false, fmt.Errorf("page of %s: %w", id, err)
	}
	return p, hit, nil
}

// CheckPages compares every page that is in the cache with the tables and returns those that differ. It is for the end, when nobody
// writes any more and the cache's sink has caught up: what differs then would be shown for ever.
func (s *Shop) CheckPages(ctx context.Context) (stale []StalePage, cached int, err error) {
	for i := range s.cfg.Products {
		id := productID(i)
		value, _, hit, err := s.cfg.Cache.Get(ctx, pageKey(id))
		if err != nil {
			return nil, 0, fmt.Errorf("page of %s: %w", id, err)
		}
		if !hit {
			continue
		}
		cached++
		truth, err := s.readPage(ctx, id)
		if err != nil {
			return nil, 0, fmt.Errorf("page of %s: %w", id, err)
		}
		var shown page
		if err := json.Unmarshal(value, &shown); err != nil {
			return nil, 0, fmt.Errorf("page of %s: %w", id, err)
		}
		if shown != truth {
			stale = append(stale, StalePage{ProductID: id, Shown: shown.RowVersion, Known: truth.RowVersion})
		}
	}
	return stale, cached, nil
}

// AppliedBy makes Config.Applied of the states that a cache's sink keeps: a state is written together with its invalidations, so its
// row version is known to be invalidated up to. Columns are those of the projection of products. Load is the sink's.
func AppliedBy(load func(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error), columns []projection.Column) func(context.Context, string) (int64, bool, error) {
	at := slices.IndexFunc(columns, func(c projection.Column) bool { return c.Name == "row_version" })
	return func(ctx context.Context, id string) (int64, bool, error) {
		states, err := load(ctx, "product", []string{id})
		if err != nil || at < 0 {
			return 0, false, err
		}
		if s := states[id]; s.Exists {
			version, ok := s.Values[at].(int64)
			return version, ok, nil
		}
		return 0, false, nil // never listed, or retired: its version is not kept
	}
}
