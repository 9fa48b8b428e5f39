package relay

import (
	"context"

	"github.com/google/uuid"
)

// discard drops a page of the events that the request at hand names. When all are dropped, the lines whose heads waited for
// nothing but them are due, unless they are to be held.
func (c *clerk) discard(ctx, work context.Context, l *loop) (bool, error) {
	if err := l.await(); err != nil { // what is parked is committed
		return false, err
	}
	j := c.job
	began, next := l.now(), l.cursor.clone()
	page := j.drop[:min(len(j.drop), c.cfg.PageSize)]
	b := newBatch(0)
	for _, id := range page {
		at := j.where[id]
		q := at.queue
		h := &held{id: id, position: at.position}
		if i, there := q.find(at.position); there {
			h.reason = q.events[i].reason
		}
		gone, err := c.discarded(q, h, j, began)
		if err != nil {
			return false, err
		}
		b.discarded++
		c.drop(b, q, h, gone)
		j.answer.Discarded++
		j.answer.add(Outcome{EventID: id, Topic: q.topic, Key: q.key, Done: DoneDiscarded})
	}
	if j.hold {
		if err := c.hold(ctx, b, page); err != nil {
			return false, err
		}
	}
	if err := l.publish(work, next, b, began); err != nil {
		return false, err
	}
	j.drop = j.drop[len(page):]
	if len(j.drop) == 0 {
		c.follow(j)
	}
	return true, nil
}

// hold says of the heads that waited only for what is discarded here that they are held.
func (c *clerk) hold(ctx context.Context, b *batch, discarded []uuid.UUID) error {
	for _, id := range discarded {
		q := c.job.where[id].queue
		if len(q.events) == 0 || q.head().reason != ReasonBehind {
			continue
		}
		p, err := c.contents.record(ctx, *q.head())
		if err != nil {
			return err
		}
		q.head().reason = ReasonHeld
		if p == nil {
			continue
		}
		p.Reason, p.Detail = ReasonHeld, "the event before it was discarded, and the line was to be held"
		if err := c.framer.hold(b, q, p); err != nil {
			return err
		}
	}
	return nil
}

// follow makes the lines due that the discarded events held up.
func (c *clerk) follow(j *job) {
	from := len(c.due)
	for _, at := range j.where {
		if q := at.queue; len(q.events) > 0 && q.head().reason == ReasonBehind {
			c.queue(q, false, j)
		}
	}
	c.order(c.due[from:])
}
