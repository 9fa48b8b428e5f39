package consumers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// attend carries out what was asked for the lane's partition. It runs in the lane's goroutine between two batches, so that no later
// event of a key can be applied, or put aside, meanwhile. A nil error means that the lane goes on.
//
// Promise 2: a key's events are applied in order, those that were put aside before those that come.
func (l *lane) attend() error {
	if err := l.attendAll(); !errors.Is(err, errCalled) {
		return err
	}
	return nil
}

func (l *lane) attendAll() error {
	requests := l.c.control.requests(l.tp)
	if len(requests) == 0 {
		return nil
	}
	l.setState(Redriving)
	defer l.setState(Idle)
	repair, requests := repairs(requests)
	if err := l.attended(l.repair(repair)); err != nil {
		return err
	}
	for len(requests) > 0 && l.over() == nil {
		var now, later []*Request
		keys := map[string]bool{}
		for _, q := range requests { // one request a key at a time
			if keys[q.Key] && q.Key != "" {
				later = append(later, q)
				continue
			}
			keys[q.Key] = true
			now = append(now, q)
		}
		requests = later
		if err := l.attended(l.round(now)); err != nil {
			return err
		}
	}
	return nil
}

// attended goes on after a refusal of the store: the partition is claimed anew, and what is not answered is tried again, with the marks that the store has: the
// error is then errCalled.
func (l *lane) attended(err error) error {
	if errors.Is(err, ErrFenced) || errors.Is(err, ErrPosition) {
		l.c.control.call(l.tp)
		return cmp.Or(l.reclaim(err), errCalled)
	}
	return err
}

// round carries out requests for different keys with one reading of the dead letters, and answers them.
func (l *lane) round(requests []*Request) error {
	var r *redrive
	err := l.retry(outageRedrive, func(context.Context) error {
		r = newRedrive(l, requests, r)
		return r.run(l.calm)
	})
	var impossible *impossible
	switch {
	case err == nil:
		return l.answer(r.answers())
	case errors.As(err, &impossible):
		return l.answer(r.failed(err))
	case Classify(err) == Systemic && !errors.Is(err, ErrFenced) && !errors.Is(err, ErrPosition):
		// Answered first, for a request that stops this process would stop the next one, too.
		return errors.Join(err, l.answer(r.failed(err)))
	}
	return err
}

// answer writes answers. What was done is done whether or not they can be written: a request without one is tried again, and finds
// nothing to do.
func (l *lane) answer(answers []*Answer) error {
	if len(answers) == 0 {
		return nil
	}
	err := l.retry(outageAnswer, func(ctx context.Context) error { return l.c.control.answer(ctx, answers...) })
	if err != nil && l.over() == nil {
		l.c.log.Error("requests were carried out and cannot be answered", "topic", l.tp.Topic, "partition", l.tp.Partition, "err", err)
		l.c.control.forget(answers)
		return nil
	}
	if err != nil {
		return err
	}
	for _, a := range answers {
		l.c.metrics.answered(a)
		l.c.log.Info("request answered", "topic", a.Topic, "partition", a.Partition, "key", a.Key, "request", a.ID, "outcome", a.Outcome,
			"applied", a.Applied, "dropped", a.Dropped, "detail", a.Detail)
	}
	return nil
}

// tellEvery is how often the asker of a long redrive is told how far it is.
const tellEvery = 2 * time.Second

// tell writes how far the tasks are. It does not matter if that fails.
func (r *redrive) tell(ctx context.Context) {
	if time.Since(r.told) < tellEvery {
		return
	}
	r.told = time.Now()
	var so []*Answer
	for _, t := range r.tasks {
		a := t.answer
		a.Outcome = Underway
		a.Detail = fmt.Sprintf("%d of %d", t.answer.Applied+t.answer.Dropped, len(t.index))
		so = append(so, &a)
	}
	if err := r.l.c.control.answer(ctx, so...); err != nil {
		r.l.c.log.Debug("progress not told", "err", err)
	}
}
