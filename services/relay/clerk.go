package relay

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/outbox/store"
)

// clerk does, between two transactions of the loop, what operators ask and what parked events are waiting for. It is the
// loop's operator and belongs to it.
//
// What is to be done follows from what is parked, not from memory, so that a crash at any point is made up for by the next start:
//
//	a line whose head is "behind"     is released: the event that it waited for is gone
//	a line whose head is "registry"   is released when the registry answers (probe.go)
//	any other line                    waits until a request names it
//
// Promise 3: a request is answered after its transactions are committed. One that a crash left without an answer is done again
// and finds its work done, for an event leaves the parked topic in the transaction that publishes it.
type clerk struct {
	cfg      Config
	desk     desk
	lines    *lines
	framer   *framer
	contents contents
	earlier  earlier
	point    func(string)

	probe probe    // of the registry
	due   []*queue // to be released, in this order
	job   *job     // the request at hand
	pause *store.Pause
}

// desk is where requests come from and answers go. *requests is the one on Postgres.
type desk interface {
	// wanted returns the pause that is to be heeded; switches are the requests that wait for this.
	wanted() (pause *store.Pause, switches []int64)
	// next returns a request to be carried out, once; nil if there is none.
	next() *store.Request
	// progress and answer tell how far a request has come, and how it ended. With pause the outbox is paused with the answer.
	progress(id int64, a *Answer)
	answer(id int64, a *Answer, pause *store.Pause)
}

// newClerk takes over what is parked.
func newClerk(cfg Config, d desk, f *framer, c contents, done earlier, point func(string)) *clerk {
	k := &clerk{cfg: cfg, desk: d, lines: f.lines, framer: f, contents: c, earlier: done, point: point,
		probe: probe{registry: f.ids.registry, retry: f.ids.retry}}
	for _, q := range f.lines.all {
		switch q.head().reason {
		case ReasonBehind:
			k.queue(q, false, nil)
		case ReasonRegistry:
			k.lines.waiting = append(k.lines.waiting, q)
		}
	}
	k.order(k.due)
	k.order(k.lines.waiting)
	return k
}

// order sorts lines as their heads lie on the parked topic, which is how they are read fastest.
func (c *clerk) order(all []*queue) {
	slices.SortStableFunc(all, func(a, b *queue) int { return cmp.Compare(a.events[0].offset, b.events[0].offset) })
}

// queue makes a line due.
func (c *clerk) queue(q *queue, forced bool, asked *job) {
	q.forced = q.forced || forced
	if asked != nil && q.asked == nil {
		q.asked = asked
		asked.open++
	}
	if !q.due {
		q.due = true
		c.due = append(c.due, q)
	}
}

// pagesAtATime is how many pages are released for each page of new events: a line gets shorter however fast its key is written.
const pagesAtATime = 2

// operate implements operator.
func (c *clerk) operate(ctx, work context.Context, l *loop) (busy, hold bool, err error) {
	if l.cursor.Intent != nil {
		return true, false, c.again(ctx, work, l)
	}
	if err := c.heed(l); err != nil {
		return false, false, err
	}
	if c.job == nil {
		c.take(l)
	}
	switch {
	case c.job != nil && len(c.job.drop) > 0:
		// Before anything is released: what is behind an event that goes may be named as well.
		busy, err = c.discard(ctx, work, l)
	case c.pause != nil:
	default:
		if err := c.askRegistry(ctx, l.now()); err != nil {
			return false, false, err
		}
		for range pagesAtATime {
			if len(c.due) == 0 {
				break
			}
			busy = true
			if err := c.release(ctx, work, l); err != nil {
				return busy, false, err
			}
		}
	}
	if err == nil {
		err = c.finish(l)
	}
	return busy, c.pause != nil, err
}

// heed takes over the pause that is wanted, or its end. It is answered when nothing is on its way any more.
func (c *clerk) heed(l *loop) error {
	pause, switches := c.desk.wanted()
	c.pause = pause
	if len(switches) == 0 {
		return nil
	}
	if err := l.await(); err != nil {
		return err
	}
	for _, id := range switches {
		c.desk.answer(id, &Answer{Pause: pause, Seq: l.cursor.Seq}, nil)
	}
	return nil
}

// finish answers the request at hand if it is done, or cannot be.
func (c *clerk) finish(l *loop) error {
	j := c.job
	if j == nil {
		return nil
	}
	if c.pause != nil && len(j.drop) == 0 && !j.done(l) {
		c.interrupt(j)
	} else if !j.done(l) {
		if j.kind != store.RequestDrain {
			c.desk.progress(j.id, &Answer{Released: j.answer.Released, Discarded: j.answer.Discarded, Stopped: j.answer.Stopped, Left: j.left(c)})
		}
		return nil
	}
	if err := l.await(); err != nil {
		return err
	}
	c.point(pointDone)
	j.conclude(c, l)
	var pause *store.Pause
	if j.pause && j.answer.Refused == "" {
		pause = cmp.Or(c.pause, &store.Pause{By: j.by, Since: l.now().UTC(), Reason: j.reason})
		c.pause, j.answer.Pause = pause, pause
	}
	c.desk.answer(j.id, &j.answer, pause)
	c.tell(j)
	c.job = nil
	return nil
}

// tell logs what was done to parked events at somebody's word.
func (c *clerk) tell(j *job) {
	if a := &j.answer; a.Released+a.Discarded+a.Stopped > 0 {
		c.cfg.Logger.Info("parked events released or discarded", "request", j.id, "by", j.by, "released", a.Released, "discarded", a.Discarded, "stopped", a.Stopped)
	}
}

// interrupt ends a request in the middle because the outbox is paused. What was made to move goes on after the pause.
func (c *clerk) interrupt(j *job) {
	j.answer.Left = j.left(c)
	for _, q := range c.due {
		if q.asked == j {
			q.asked, q.forced = nil, false
		}
	}
	j.open = 0
	if j.kind != store.RequestDiscard { // which did what it was asked; the rest of the lines follows by itself
		j.answer.Refused = fmt.Sprintf("the outbox is paused by %s since %s: resume it first", c.pause.By, c.pause.Since.Format(time.DateTime))
	}
}
