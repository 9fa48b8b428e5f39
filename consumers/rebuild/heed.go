package rebuild

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/consumers/fold"
)

// A comparison looks every so many states whether the live sink needs the machine; if it does, it rests so many times as long as it has worked since. It goes on slowly then, and never stands still: a server
// closes a snapshot that nobody reads, and the live sink may lag for reasons that have nothing to do with it.
const (
	heedEvery = 500
	heedRest  = 4
	heedMost  = 10 * time.Second
)

// heed is why a comparison goes slowly; nil if it need not.
type heed struct{ reason atomic.Pointer[string] }

// set says why; "" for no reason.
func (h *heed) set(why string) {
	if why == "" {
		h.reason.Store(nil)
		return
	}
	h.reason.Store(&why)
}

// why is the reason; "" without one.
func (h *heed) why() string {
	if why := h.reason.Load(); why != nil {
		return *why
	}
	return ""
}

// heeding is a snapshot that is read slowly while there is a reason: comparing takes from the live sink as building does.
type heeding struct {
	fold.Snapshot
	heed *heed
}

// States implements fold.Snapshot.
func (s heeding) States(ctx context.Context, entity string, yield func(key string, s fold.Stored) error) error {
	n, began := 0, time.Now()
	return s.Snapshot.States(ctx, entity, func(key string, st fold.Stored) error {
		if n++; n%heedEvery == 0 {
			if s.heed.why() != "" && !wait(ctx, min(heedRest*time.Since(began), heedMost)) {
				return ctx.Err()
			}
			began = time.Now()
		}
		return yield(key, st)
	})
}
