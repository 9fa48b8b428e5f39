package relay

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// slowStep is how long a step of a start may take before the log tells of it.
const slowStep = 5 * time.Second

// step says what the start does now, for whoever asks while it takes long.
func (s *status) step(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doing, s.doingSince = fmt.Sprintf(format, args...), s.now()
}

// starting describes a start under way: "starting: STEP, for 12s".
func (s *status) starting() (string, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s.State != StateStarting || s.doing == "" {
		return "", 0
	}
	return s.doing, s.now().Sub(s.doingSince)
}

// tellSlow logs, once for each step, that a start waits in it. The function it returns ends that and waits.
func (r *Relay) tellSlow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() {
		told := r.toldStep
		for sleep(ctx, slowStep/5) == nil {
			if doing, since := r.status.starting(); since >= slowStep && doing != told {
				r.cfg.Logger.Warn("the start takes long", "step", doing, "for", since.Round(time.Second))
				told = doing
			}
		}
		r.toldStep = told
	})
	return func() {
		cancel()
		telling.Wait()
	}
}
