package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

// prefetcher is a source that reads the next page of a window while the one before is framed, sent and committed: reading
// costs Postgres as much time as publishing costs the broker. It holds one page at most. Like the loop it belongs to, it is
// not for concurrent use; the goroutine it starts has the source for itself until it ends.
type prefetcher struct {
	source source
	ahead  *pageAhead // nil when nothing is being read
}

// pageAhead is a page that was not asked for yet.
type pageAhead struct {
	window *store.Window
	after  int64
	limit  int

	done   chan struct{} // closed when page and err are set
	cancel context.CancelFunc
	page   store.Page
	err    error
}

func (p *prefetcher) Open(ctx context.Context, last store.Snapshot, limit int) (*store.Window, store.Page, error) {
	p.drop()
	w, page, err := p.source.Open(ctx, last, limit)
	if err == nil {
		p.readAhead(ctx, w, &page, limit)
	}
	return w, page, err
}

func (p *prefetcher) Page(ctx context.Context, w *store.Window, after int64, limit int) (page store.Page, err error) {
	if a := p.ahead; a != nil && a.window == w && a.after == after {
		p.ahead = nil
		<-a.done // its context is one of ctx
		a.cancel()
		page, err = a.page, a.err
	} else {
		p.drop()
		page, err = p.source.Page(ctx, w, after, limit)
	}
	if err == nil {
		p.readAhead(ctx, w, &page, limit)
	}
	return page, err
}

// readAhead starts to read the page after this one, if there is one.
func (p *prefetcher) readAhead(ctx context.Context, w *store.Window, page *store.Page, limit int) {
	last, ok := page.LastID()
	if !page.More || !ok {
		return
	}
	a := &pageAhead{window: w, after: last, limit: limit, done: make(chan struct{})}
	ctx, a.cancel = context.WithCancel(ctx)
	p.ahead = a
	go func() {
		defer close(a.done)
		a.page, a.err = p.source.Page(ctx, a.window, a.after, a.limit)
	}()
}

// settle waits until the source is free. It returns an error if that was waited for in vain: the source is good for nothing then, and
// would not say why.
func (p *prefetcher) settle() error {
	if p.ahead == nil {
		return nil
	}
	<-p.ahead.done
	if err := p.ahead.err; errors.Is(err, errSilence) {
		return fmt.Errorf("read rows after %d ahead: %w", p.ahead.after, err)
	}
	return nil
}

// drop ends what is being read and forgets it.
func (p *prefetcher) drop() {
	if a := p.ahead; a != nil {
		a.cancel()
		<-a.done
		a.page.Release()
		p.ahead = nil
	}
}

func (p *prefetcher) Reopen(ctx context.Context, last, upper store.Snapshot) (*store.Window, error) {
	p.drop()
	return p.source.Reopen(ctx, last, upper)
}

func (p *prefetcher) Flushed(ctx context.Context, w *store.Window) (bool, error) {
	if err := p.settle(); err != nil {
		return false, err
	}
	return p.source.Flushed(ctx, w)
}

func (p *prefetcher) ForceFlush(ctx context.Context) error {
	if err := p.settle(); err != nil {
		return err
	}
	return p.source.ForceFlush(ctx)
}

func (p *prefetcher) Schema(ctx context.Context, fp schemas.Fingerprint) (*schemas.Schema, error) {
	if err := p.settle(); err != nil {
		return nil, err
	}
	return p.source.Schema(ctx, fp)
}
