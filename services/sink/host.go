package sink

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/consumers/rebuild"
)

// host is the sink as the job sees it that leads its rebuilds.
type host struct{ v *supervisor }

var (
	_ rebuild.Host  = host{}
	_ rebuild.Store = (*store)(nil)
)

// offer is a generation that is about to serve, and its feed.
type offer struct {
	store *store
	feed  *rebuild.Feed
}

// Declared implements rebuild.Host.
func (h host) Declared() rebuild.Generation { return h.v.s.declared.generation }

// Running implements rebuild.Host.
func (h host) Running(number int) (rebuild.Generation, bool) {
	h.v.s.mu.Lock()
	defer h.v.s.mu.Unlock()
	if h.v.s.shown == nil || h.v.s.shown.number != number {
		return rebuild.Generation{}, false
	}
	return h.v.s.shown.declared, true
}

// Stopped implements rebuild.Host.
func (h host) Stopped(number int) error {
	h.v.s.mu.Lock()
	defer h.v.s.mu.Unlock()
	if h.v.s.shown == nil || h.v.s.shown.number != number || h.v.s.feed != nil {
		return nil
	}
	return h.v.s.trouble
}

// Open implements rebuild.Host.
func (h host) Open(_ context.Context, number int, g *rebuild.Generation, building bool) (rebuild.Store, error) {
	s := h.v.s
	st, err := s.shelf.get(number, func() (*store, error) {
		d := s.declared
		if g != nil && len(changed(*g, d.generation)) > 0 {
			var err error
			if d, err = s.recorded(g); err != nil {
				return nil, err
			}
		}
		return s.make(number, building, d)
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}

// Remove implements rebuild.Host.
func (h host) Remove(ctx context.Context, number int, g *rebuild.Generation) error {
	cfg := h.v.s.cfg
	remove := kinds[cfg.Kind].remove
	if remove == nil {
		return fmt.Errorf("a store of kind %s has to be opened to be removed", cfg.Kind)
	}
	return remove(ctx, cfg, number, slices.Sorted(maps.Keys(g.Digests)))
}

// Offer implements rebuild.Host.
func (h host) Offer(_ int, st rebuild.Store, f *rebuild.Feed) {
	h.v.s.mu.Lock()
	defer h.v.s.mu.Unlock()
	h.v.s.offered = &offer{st.(*store), f}
}

// TakeBack implements rebuild.Host.
func (h host) TakeBack(number int) bool {
	h.v.s.mu.Lock()
	defer h.v.s.mu.Unlock()
	o := h.v.s.offered
	if o == nil || o.store.number != number {
		return false
	}
	h.v.s.offered = nil
	return true
}

// Feeding implements rebuild.Host.
func (h host) Feeding() context.Context { return h.v.ctx }

// taken returns what was offered of a generation; nothing if it was not.
func (s *Sink) taken(number int) (*store, *rebuild.Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.offered
	if o == nil || o.store.number != number {
		return nil, nil
	}
	s.offered = nil
	return o.store, o.feed
}

// takeOffer lets go of an offer that nobody has taken: the sink stops.
func (s *Sink) takeOffer() {
	s.mu.Lock()
	o := s.offered
	s.offered = nil
	s.mu.Unlock()
	if o == nil {
		return
	}
	o.feed.Stop()
	if err := o.store.Close(); err != nil {
		s.logger.Error("the store of a generation is not closed", "generation", o.store.number, "err", err)
	}
}
