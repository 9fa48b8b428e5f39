package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
)

// Promise 8: readers are moved to a generation that has everything they have seen, also where the store itself cannot tell (an index, a file: readers ask the process). What the
// one that served has applied up to the fence is waited for.
func TestPromise8_NobodyIsMovedBeforeTheFencedPositionsAreReached(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.server.Blind = true
	var (
		late    = make(chan struct{}) // closed: the new generation goes on
		waited  atomic.Int64          // questions for its positions, behind the fence
		fenced  atomic.Int64
		behind  atomic.Bool // from when on the new one stands still
		free    = func() { defer func() { _ = recover() }(); close(late) }
		tooSoon atomic.Value
	)
	t.Cleanup(free)
	v.tap(&taps{
		commit: func(ctx context.Context, n int, _ fold.Commit) error {
			if n == 2 && behind.Load() {
				select {
				case <-late:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		},
		finish: func(_ context.Context, n int) error {
			if n == 2 && !behind.Swap(true) {
				v.open(50)
				v.applied(v.generation(1, ""))
			}
			return nil
		},
		claim: func(n int, _ consumers.TopicPartition) {
			if n == 1 && behind.Load() {
				fenced.Add(1)
			}
		},
		positions: func(_ context.Context, n int) error {
			if n == 2 && fenced.Load() >= 3 && waited.Add(1) == 4 {
				free()
			}
			return nil
		},
		serve: func(_ context.Context, n int) error {
			if n == 2 && waited.Load() < 4 {
				tooSoon.Store(fmt.Sprintf("readers are moved although the new generation stands still (%d looks)", waited.Load()))
				free()
			}
			return nil
		},
	})
	v.open(300)
	v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	v.ask(rebuild.Start, nil)
	v.inState(rebuild.Soaking)
	if why := tooSoon.Load(); why != nil {
		t.Error(why)
	}
	if now, before := v.server.Read("account"), v.generation(1, "").States("account"); len(now) != len(before) || now["account-0"].Version < before["account-0"].Version {
		t.Errorf("readers see %d accounts, before %d", len(now), len(before))
	}
}

// A swap that the store refuses for long is given up: readers see what they saw and what comes, the new generation follows and waits to be told to try again. What passes soon is waited for.
func TestPromise8_ASwapThatIsGivenUpLeavesReadersWhereTheyAre(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	var refusing, tries atomic.Int64 // the generation that must not serve
	v.tap(&taps{serve: func(_ context.Context, n int) error {
		if int64(n) == refusing.Load() {
			tries.Add(1)
			return fmt.Errorf("an old snapshot is open: %w", fold.ErrBehind)
		}
		return nil
	}})
	v.open(300)
	s := v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	refusing.Store(2)
	v.ask(rebuild.Start, nil)
	b := v.inState(rebuild.Refused).Rebuild
	if !strings.Contains(b.Reason, "an old snapshot is open") || tries.Load() < 2 {
		t.Errorf("%q after %d tries", b.Reason, tries.Load())
	}
	s.serves(1)
	v.open(100)
	v.applied(v.generation(1, "")) // it is fed again
	v.applied(v.generation(2, "")) // and followed
	if v.server.Serving() != 1 || v.server.Read("account")["account-0"].Version < 400 {
		t.Errorf("generation %d serves, account-0 is %+v", v.server.Serving(), v.server.Read("account")["account-0"])
	}
	refusing.Store(0)
	v.ask(rebuild.Accept, nil) // try again
	v.inState(rebuild.Soaking)
	s.serves(2)

	refusing.Store(1)
	tries.Store(0)
	v.rollback()
	b = v.until("the rollback is given up", func(rec rebuild.Record) bool {
		return rec.Rebuild != nil && rec.Rebuild.State == rebuild.Soaking && tries.Load() > 0
	}).Rebuild
	if b.RolledBack {
		t.Errorf("%+v", b)
	}
	s.serves(2)
	v.open(100)
	v.applied(v.generation(2, ""))
	v.applied(v.generation(1, ""))
	if v.server.Serving() != 2 {
		t.Error("readers were moved")
	}
	refusing.Store(0)
	v.rollback()
	v.over("rolled-back")
	s.serves(1)
}

// A reason that passes is waited for, and the swap goes on by itself.
func TestPromise8_ASwapGoesOnWhenTheReasonPasses(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	var tries atomic.Int64
	v.tap(&taps{serve: func(_ context.Context, n int) error {
		if n == 2 && tries.Add(1) < 3 {
			return errors.New("not yet")
		}
		return nil
	}})
	v.open(300)
	s := v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	v.ask(rebuild.Start, nil)
	if b := v.inState(rebuild.Soaking).Rebuild; b.Reason != "" {
		t.Errorf("%+v", b)
	}
	s.serves(2)
	v.open(100)
	v.applied(v.generation(2, ""))
	v.applied(v.generation(1, ""))
}

// rollback asks for one as soon as the former generation follows.
func (v *vault) rollback() {
	v.t.Helper()
	eventually(v.t, "a rollback is begun", func() error {
		ctx, cancel := context.WithTimeout(v.t.Context(), time.Minute)
		defer cancel()
		if a, err := rebuild.Open(v.name, v.kafka...).Ask(ctx, rebuild.Request{Action: rebuild.Rollback}); err != nil || !a.OK {
			return fmt.Errorf("%+v %w", a, err)
		}
		return nil
	})
}
