package rebuild

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/consumers/fold"
)

// slowly is a snapshot of so many states, each of which takes a millisecond.
type slowly struct {
	fold.Snapshot
	states int
}

func (s slowly) States(_ context.Context, _ string, yield func(string, fold.Stored) error) error {
	for range s.states {
		time.Sleep(time.Millisecond)
		if err := yield("key", fold.Stored{}); err != nil {
			return err
		}
	}
	return nil
}

// Comparing takes from the live sink as building does, and goes slowly while that lags; it does not stand still, however long that is.
func TestAComparisonHeedsTheLiveSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heed{}
		read := func(ctx context.Context) (n int, took time.Duration, err error) {
			began := time.Now()
			err = heeding{slowly{states: 2 * heedEvery}, h}.States(ctx, "order", func(string, fold.Stored) error { n++; return nil })
			return n, time.Since(began), err
		}
		if n, took, err := read(t.Context()); n != 2*heedEvery || took != 2*heedEvery*time.Millisecond || err != nil {
			t.Errorf("%d states in %v: %v", n, took, err)
		}
		h.set("the live sink lags")
		if n, took, err := read(t.Context()); n != 2*heedEvery || took != (1+heedRest)*2*heedEvery*time.Millisecond || err != nil {
			t.Errorf("%d states in %v while the live sink lags: %v", n, took, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), (heedEvery+10)*time.Millisecond)
		defer cancel()
		if _, _, err := read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a comparison that is ended: %v", err)
		}
		h.set("")
		if _, took, _ := read(t.Context()); took != 2*heedEvery*time.Millisecond {
			t.Errorf("%v when the live sink has come up", took)
		}
	})
}
