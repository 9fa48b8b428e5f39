package registry

import (
	"context"
	"fmt"
	"sync"
)

// flight lets callers who ask for the same thing at once share one answer. The first of them asks, in its own goroutine
// and under its own context, so that nothing runs on behind a caller who left; if it leaves, another one takes over.
type flight[K comparable, V any] struct {
	mu    sync.Mutex // guards the following
	calls map[K]*call[V]
}

type call[V any] struct {
	done      chan struct{}
	value     V
	err       error
	abandoned bool // the asker's context ended: the error is nobody else's
}

func (f *flight[K, V]) do(ctx context.Context, key K, ask func() (V, error)) (V, error) {
	for {
		c, first := f.join(key)
		if first {
			f.lead(ctx, key, c, ask)
			return c.value, c.err
		}
		select {
		case <-c.done:
			if !c.abandoned {
				return c.value, c.err
			}
		case <-ctx.Done():
			var zero V
			return zero, fmt.Errorf("schema registry: %w", ctx.Err())
		}
	}
}

func (f *flight[K, V]) join(key K) (c *call[V], first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.calls[key]; ok {
		return c, false
	}
	if f.calls == nil {
		f.calls = map[K]*call[V]{}
	}
	c = &call[V]{done: make(chan struct{}), abandoned: true}
	f.calls[key] = c
	return c, true
}

func (f *flight[K, V]) lead(ctx context.Context, key K, c *call[V], ask func() (V, error)) {
	defer func() {
		f.mu.Lock()
		delete(f.calls, key)
		f.mu.Unlock()
		close(c.done)
	}()
	c.value, c.err = ask()
	c.abandoned = ctx.Err() != nil && c.err != nil
}
