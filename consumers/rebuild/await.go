package rebuild

import (
	"context"
	"errors"
	"time"

	"github.com/millrace/millrace/consumers/fold"
)

// serveBrief is how long a store whose readers were waited for before the fence may wait for those that began since. The last try has the whole of cutPatience: where some reader is always long,
// nothing else helps.
const serveBrief = 10 * time.Second

// awaitReaders waits for those who read the store and would keep the generation from serving. Both generations are fed meanwhile: no reader of the one that serves sees
// it grow old.
func (j *Job) awaitReaders(ctx context.Context, w *work) error {
	a, ok := w.store.Sink().(fold.Awaiter)
	if !ok {
		return nil
	}
	defer j.awaited.Store(nil)
	return a.AwaitReaders(ctx, func(whom string) { j.awaited.Store(&whom) })
}

// sayAwaited writes down whom the task waits for.
func (j *Job) sayAwaited(ctx context.Context) error {
	why := ""
	if whom := j.awaited.Load(); whom != nil {
		why = cut("readers are moved when this has ended, or is ended: "+*whom, maxReason)
	}
	if why == j.rec.Rebuild.Reason {
		return nil
	}
	return j.move(ctx, func(_ *Record, b *Rebuild) { b.Reason = why })
}

// rollBack goes on with a rollback that was asked for: the generation that serves is fenced when nobody reads the store any more who could step back.
func (j *Job) rollBack(ctx context.Context, w *work) error {
	switch {
	case !w.running:
		return nil
	case j.task == nil:
		j.task = begin(ctx, func(ctx context.Context) error { return j.awaitReaders(ctx, w) })
		return nil
	case !j.task.ended():
		return j.sayAwaited(ctx)
	}
	err := j.task.err
	j.task = nil
	if err != nil {
		return err
	}
	return j.move(ctx, func(_ *Record, b *Rebuild) {
		b.State, b.RollingBack, b.RolledBack, b.Reason = CuttingOver, false, true, ""
	})
}

// serve lets a generation serve, and does not wait for long for whoever reads: nothing feeds the one that served.
func (j *Job) serve(ctx context.Context, g fold.Generational) error {
	if _, ok := g.(fold.Awaiter); ok && j.swaps < swapTries-1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, serveBrief, errCutOver)
		defer cancel()
	}
	return g.Serve(ctx)
}

// retreat ends a swap that a store refuses because of those who read it: the generation that served goes on, and they are waited for before it is fenced again.
func (j *Job) retreat(ctx context.Context, w *work, why error) error {
	if err := j.serveOn(ctx, w); err != nil {
		return errors.Join(why, err)
	}
	j.log.Warn("the swap waits until who reads has ended; what served serves on", "generation", j.rec.Serving, "err", why)
	return j.move(ctx, func(_ *Record, b *Rebuild) {
		b.Reason = why.Error()
		if b.State = Verifying; b.RolledBack {
			b.State, b.RolledBack, b.RollingBack = Soaking, false, true
		}
	})
}
