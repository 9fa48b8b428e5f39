package relay

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is a pause that doubles from min to max and is jittered by half, so that relays which fence each other part.
type backoff struct{ min, max time.Duration }

func (b backoff) pause(attempt int) time.Duration {
	d := b.max
	if attempt < 30 && b.min<<attempt < b.max && b.min<<attempt > 0 {
		d = b.min << attempt
	}
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// wait pauses before the attempt after the given one, from 0. It returns the context's error when that ends first.
func (b backoff) wait(ctx context.Context, attempt int) error { return sleep(ctx, b.pause(attempt)) }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
