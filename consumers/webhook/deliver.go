package webhook

import (
	"context"
	"sync"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// progress is what became of the events of a partition since the position moved last. It belongs to the partition's lane.
type progress struct {
	done    map[int64]struct{} // answered with success, or left out
	refused map[int64]error
}

// round is one pass over a batch.
type round struct {
	s     *Sink
	c     fold.Commit
	p     *progress
	most  int // failures after which no further key is begun
	chain chan []*consumers.Event

	mu       sync.Mutex // guards the following, and p
	failures int
	failed   error // the transient failure that asks for the longest pause
	fatal    error // systemic, or the partition is no longer ours
}

// deliver posts what of a batch is not done, each key's events in order. It returns nil if all of it is done; else the error says why not.
func (s *Sink) deliver(ctx context.Context, c fold.Commit, p *progress) error {
	chains := s.chains(c.Events, p)
	r := &round{s: s, c: c, p: p, most: s.cfg.Concurrency, chain: make(chan []*consumers.Event)}
	var wg sync.WaitGroup
	for range min(s.cfg.Concurrency, len(chains)) {
		wg.Go(func() {
			for chain := range r.chain {
				r.post(ctx, chain)
			}
		})
	}
	for _, chain := range chains {
		r.chain <- chain
	}
	close(r.chain)
	wg.Wait()
	switch {
	case r.fatal != nil:
		return r.fatal
	case ctx.Err() != nil:
		return ctx.Err()
	case r.failed != nil:
		return r.failed
	}
	return p.rejected(c.Events)
}

// askAnew forgets that events were refused: somebody redrives them, because the receiver is another now.
func (p *progress) askAnew(events []consumers.Event) {
	for i := range events {
		delete(p.refused, events[i].Offset)
	}
}

// rejected is the error about those of the events that were refused; nil if none was.
func (p *progress) rejected(events []consumers.Event) error {
	refused := map[int64]error{}
	for i := range events {
		if err := p.refused[events[i].Offset]; err != nil {
			refused[events[i].Offset] = err
		}
	}
	if len(refused) == 0 {
		return nil
	}
	return &fold.Rejected{Events: refused}
}

// chains are the events to post by key, each in the order of offsets, the keys in the order of their first.
func (s *Sink) chains(events []consumers.Event, p *progress) [][]*consumers.Event {
	var all [][]*consumers.Event
	number := map[string]int{}
	for i := range events {
		ev := &events[i]
		if s.cfg.Skip != nil && s.cfg.Skip(ev) {
			p.done[ev.Offset] = struct{}{}
		}
		if _, done := p.done[ev.Offset]; done {
			continue
		}
		n, ok := number[ev.Key]
		if !ok {
			n = len(all)
			number[ev.Key] = n
			all = append(all, nil)
		}
		all[n] = append(all[n], ev)
	}
	return all
}

// post posts the events of one key until one of them cannot be.
//
// Promise 2: an event is posted when the one before it was answered with success.
func (r *round) post(ctx context.Context, chain []*consumers.Event) {
	for _, ev := range chain {
		if !r.may(ctx, ev) {
			return
		}
		select {
		case r.s.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		headers, body := r.s.request(ev)
		err := r.s.client.Post(ctx, headers, body)
		<-r.s.slots
		if ctx.Err() == nil || err == nil {
			r.s.metrics.answered(err, time.Since(began))
		}
		if !r.note(ev, err) {
			return
		}
	}
}

// may says whether an event may be posted. One that stands behind a refused one may not, and nothing may that is no longer ours, as far as we know.
func (r *round) may(ctx context.Context, ev *consumers.Event) bool {
	err := r.s.cfg.Positions.Check(r.c)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.fatal == nil {
		r.fatal = err
	}
	_, refused := r.p.refused[ev.Offset]
	return ctx.Err() == nil && r.fatal == nil && r.failures < r.most && !refused
}

// note takes an answer in. It returns false if the key's later events are to wait.
func (r *round) note(ev *consumers.Event, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch class := consumers.Classify(err); {
	case err == nil:
		r.p.done[ev.Offset] = struct{}{}
		return true
	case class == consumers.Systemic:
		r.fatal = err
	case class == consumers.Poison:
		r.p.refused[ev.Offset] = err
	default:
		r.failures++
		if r.failed == nil || consumers.Wait(err) > consumers.Wait(r.failed) {
			r.failed = err
		}
	}
	return false
}
