package retention_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/test/history"
)

// follower is a relay without Kafka: it publishes into a ledger, a page at a time, and lags now and then.
type follower struct {
	reader *store.Reader
	ledger *history.Ledger
	rng    *rand.Rand
	slow   bool // small pages and long pauses: windows stay open

	mu sync.Mutex // guards the following
	// last is the committed cursor's, upper that of the window being read.
	last, upper store.Snapshot
}

func newFollower(ctx context.Context, conn *pgx.Conn, seed uint64) (*follower, error) {
	reader, err := store.NewReader(ctx, conn, "")
	return &follower{reader: reader, ledger: history.NewLedger(), rng: rand.New(rand.NewPCG(seed, 1<<33))}, err
}

// committed is what may be gone by when leaves are emptied; reading is what may not.
func (f *follower) committed() store.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *follower) reading() store.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.upper
}

func (f *follower) set(last, upper store.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.upper = last, upper
}

// poll publishes a window to its end.
func (f *follower) poll(ctx context.Context) (n int, err error) {
	limit := []int{5, 50, 400}[f.rng.IntN(3)]
	if f.slow {
		limit = 20
	}
	w, page, err := f.reader.Open(ctx, f.last, limit)
	if err != nil {
		return 0, err
	}
	f.set(f.last, w.Upper)
	for {
		for _, e := range page.Events {
			f.ledger.Add(history.Seen{EventID: e.EventID, Key: e.Key, N: int64(binary.BigEndian.Uint64(e.Payload))})
		}
		n += len(page.Events)
		if !page.More {
			break
		}
		after, _ := page.LastID()
		page.Release()
		if f.slow || f.rng.IntN(4) == 0 {
			pause(ctx, f.rng, 30*time.Millisecond)
		}
		if page, err = f.reader.Page(ctx, w, after, limit); err != nil {
			return n, err
		}
	}
	page.Release()
	if f.rng.IntN(10) == 0 {
		pause(ctx, f.rng, 150*time.Millisecond)
	}
	flushed, err := f.reader.Flushed(ctx, w)
	if err == nil && !flushed {
		if err = f.reader.ForceFlush(ctx); err == nil {
			_, err = f.reader.Flushed(ctx, w)
		}
	}
	if err != nil {
		return n, err
	}
	last, err := w.Advance()
	f.set(last, last)
	return n, err
}

func pause(ctx context.Context, rng *rand.Rand, most time.Duration) {
	timer := time.NewTimer(time.Duration(rng.Int64N(int64(most))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
