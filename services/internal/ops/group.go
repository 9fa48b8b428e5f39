package ops

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Group runs parts that stop together: the first that fails, or ends by itself, stops the rest, and its error is the one
// Wait returns.
type Group struct {
	g   *errgroup.Group
	ctx context.Context
}

// errEnded is what a part that ends without being asked leaves behind.
var errEnded = errors.New("ended by itself")

// NewGroup returns a group whose parts run until ctx ends.
func NewGroup(ctx context.Context) *Group {
	g, ctx := errgroup.WithContext(ctx)
	return &Group{g: g, ctx: ctx}
}

// Go starts a part. The name stands before its error.
func (g *Group) Go(name string, run func(context.Context) error) {
	g.g.Go(func() error {
		err := run(g.ctx)
		switch {
		case g.ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
			return nil
		case err == nil:
			err = errEnded
		}
		return fmt.Errorf("%s: %w", name, err)
	})
}

// Wait returns when every part has ended: nil when that was asked for.
func (g *Group) Wait() error { return g.g.Wait() }
