package rebuild

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The rate holds for all lanes together, and nothing is made up for after a wait.
func TestARateIsObeyedByCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, batch, lanes = 1000, 100, 3
		p := newPace()
		p.set(rate, "")
		ctx, cancel := context.WithCancel(t.Context())
		var let atomic.Int64
		var all sync.WaitGroup
		for range lanes {
			all.Go(func() {
				for p.wait(ctx, batch) == nil {
					let.Add(batch)
				}
			})
		}
		passed := func(of time.Duration) int64 {
			before := let.Load()
			time.Sleep(of)
			synctest.Wait()
			return let.Load() - before
		}
		if n := passed(10 * time.Second); n < 10*rate || n > 10*rate+batch {
			t.Errorf("%d events in 10 s at %d a second", n, rate)
		}
		p.set(rate, "the live sink lags")
		passed(time.Second)
		if n := passed(time.Minute); n != 0 {
			t.Errorf("%d events while nothing may be done", n)
		}
		p.set(rate, "")
		if n := passed(10 * time.Second); n < 10*rate || n > 10*rate+batch {
			t.Errorf("%d events in 10 s at %d a second after a wait", n, rate)
		}
		cancel()
		all.Wait()
	})
}

// Before the sink that serves was looked at, nobody knows whether anything may be done, nor at which rate.
func TestNothingIsBuiltBeforeTheFirstLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, waited := heldPace(), make(chan error, 1)
		go func() { waited <- p.wait(t.Context(), 1) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if p.throttled() == "" {
			t.Error("it does not wait")
		}
		p.set(0, "paused")
		if why := p.throttled(); why != "paused" {
			t.Errorf("it waits because %q", why)
		}
		p.set(0, "")
		if err := <-waited; err != nil {
			t.Error(err)
		}
	})
}

// The lag stays within the bound, and so the build waits before it is there.
func TestABuildWaitsFromHalfOfTheBoundOn(t *testing.T) {
	b := &Rebuild{Options: Options{MaxLag: 4 * time.Second}}
	for late, waits := range map[time.Duration]bool{0: false, 2 * time.Second: false, 2001 * time.Millisecond: true, time.Hour: true} {
		if why := b.reason(late); (why != "") != waits {
			t.Errorf("at a lag of %v it waits because %q", late, why)
		}
	}
	if why := (&Rebuild{}).reason(DefaultMaxLag); why == "" {
		t.Error("there is no bound by default")
	}
	b.Paused = true
	if why := b.reason(0); why != "paused" {
		t.Errorf("%q", why)
	}
}

// A rate is that of the time in which something could be done.
func TestTheRateOfABuildLeavesOutItsWaits(t *testing.T) {
	a, now, count := average{}, time.Unix(100, 0), int64(0)
	look := func(after time.Duration, more int64, counts bool) {
		now, count = now.Add(after), count+more
		a.add(now, count, counts)
	}
	look(0, 0, true)
	look(3*time.Second, 0, true) // nothing has come yet
	look(time.Second, 50, true)
	look(2*time.Second, 400, true)
	look(time.Hour, 10, false)
	look(2*time.Second, 600, true)
	if got := a.rate(); got != 250 {
		t.Errorf("%v a second", got)
	}
	if got := new(average).rate(); got != 0 {
		t.Errorf("%v a second of nothing", got)
	}
}
