// Package pace keeps work to a rate, and waits for no longer than somebody wants it to.
package pace

import (
	"context"
	"time"
)

// Sleep waits for a time, or until ctx ends: then it returns ctx's error.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Keep waits until so much work is due as was done since it began, at a rate a second, or until ctx ends. At a rate of 0 or less everything is due.
func Keep(ctx context.Context, began time.Time, done int64, rate int) error {
	if rate <= 0 {
		return ctx.Err()
	}
	return Sleep(ctx, time.Until(began.Add(time.Duration(float64(done)/float64(rate)*float64(time.Second)))))
}
