package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
)

// readers are those of a store who have to end before readers can be moved.
type readers struct {
	gone   atomic.Pointer[chan struct{}]
	waited atomic.Int64
}

func (r *readers) come()  { gone := make(chan struct{}); r.gone.Store(&gone) }
func (r *readers) leave() { close(*r.gone.Load()) }

func (r *readers) await(ctx context.Context, _ int, tell func(string)) error {
	r.waited.Add(1)
	select {
	case <-*r.gone.Load():
		return nil
	default:
	}
	tell("a long report")
	select {
	case <-*r.gone.Load():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// heldUpByReport waits until both generations are compared, and a long report keeps readers from being moved.
func (v *vault) heldUpByReport() {
	v.t.Helper()
	v.until("it waits for the report", func(rec rebuild.Record) bool {
		return rec.Rebuild != nil && rec.Rebuild.State == rebuild.Verifying && strings.Contains(rec.Rebuild.Reason, "a long report")
	})
}

// Promise 8: readers see what comes, however long one of them keeps the swap waiting: it is waited for before the generation that serves is fenced, there and back. The record says for whom.
func TestPromise8_WhoReadsForLongIsWaitedForBeforeTheFence(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	long := &readers{}
	long.come()
	v.tap(&taps{await: long.await})
	v.open(300)
	v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	v.ask(rebuild.Start, nil)
	v.heldUpByReport()
	v.fed(1)
	v.fed(2)
	long.leave()
	if b := v.inState(rebuild.Soaking).Rebuild; b.Reason != "" {
		t.Errorf("%+v", b)
	}

	long.come()
	v.applied(v.generation(1, ""))
	v.rollback()
	v.until("the rollback waits for the report", func(rec rebuild.Record) bool {
		b := rec.Rebuild
		return b != nil && b.State == rebuild.Soaking && b.RollingBack && !b.RolledBack && rec.Serving == 2 && strings.Contains(b.Reason, "a long report")
	})
	if why := v.refused(rebuild.Rollback, nil); !strings.Contains(why, "already") || !strings.Contains(why, "a long report") {
		t.Error(why)
	}
	v.fed(2)
	v.fed(1)
	long.leave()
	if rec := v.over("rolled-back"); rec.Serving != 1 {
		t.Errorf("%+v", rec)
	}
	v.fed(1)
}

// fed makes sure that readers of a generation see what comes.
func (v *vault) fed(n int) {
	v.t.Helper()
	v.open(50)
	v.applied(v.generation(n, ""))
}

// Who began to read since, and is in the way behind the fence, is waited for with the generation fed that serves; nobody has to say that it is to be tried again.
func TestPromise8_WhoBeganToReadSinceIsWaitedForBeforeTheNextTry(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	long := &readers{}
	long.come()
	long.leave()
	var once atomic.Int64 // the generation that is refused once
	once.Store(2)
	v.tap(&taps{await: long.await, serve: func(_ context.Context, n int) error {
		if once.CompareAndSwap(int64(n), 0) {
			long.come()
			return fmt.Errorf("somebody has begun to read: %w", fold.ErrBehind)
		}
		return nil
	}})
	v.open(300)
	s := v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	v.ask(rebuild.Start, nil)
	waits := func(state rebuild.State) {
		v.until("it waits again", func(rec rebuild.Record) bool {
			return rec.Rebuild != nil && rec.Rebuild.State == state && strings.Contains(rec.Rebuild.Reason, "a long report")
		})
	}
	waits(rebuild.Verifying)
	if n := long.waited.Load(); n != 2 {
		t.Errorf("readers were waited for %d times", n)
	}
	s.serves(1)
	v.fed(1)
	long.leave()
	v.inState(rebuild.Soaking)
	s.serves(2)

	once.Store(1)
	v.applied(v.generation(1, ""))
	v.rollback()
	waits(rebuild.Soaking)
	s.serves(2)
	v.fed(2)
	v.ask(rebuild.Finish, nil) // whoever has changed his mind
	v.over("done")
	if rec, err := rebuild.Open(v.name, v.kafka...).Read(t.Context()); err != nil || rec.Serving != 2 {
		t.Error(rec, errors.Join(err))
	}
	v.fed(2)
}
