package relay

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// releaseBytes and releaseEvents end a page of released events; a page holds one event at least. Where delivery is at-least-once
// the page is announced event by event, in a record that the cursor topic must take.
const (
	releaseBytes  = 8 << 20
	releaseEvents = 5000
)

// pageSize is how many events are released in one transaction.
func (c *clerk) pageSize() int { return min(c.cfg.PageSize, releaseEvents) }

// release publishes a page of the lines that are due, each from its head, in order. It is a transaction of the loop like any
// other: it has its own t, the events get the next seqs, and each leaves the parked topic in it. What arrives for these keys
// meanwhile queues behind them, until a line is empty.
//
// Promises 2 and 3: an event is published behind those of its key that were parked before it, and parked no longer, as one.
func (c *clerk) release(ctx, work context.Context, l *loop) error {
	if err := l.await(); err != nil { // what is parked is committed
		return err
	}
	began, next := l.now(), l.cursor.clone()
	b := newBatch(c.waiting())
	size := 0
	if err := c.contents.expect(ctx, c.upcoming()); err != nil {
		return err
	}
	for len(c.due) > 0 {
		q := c.due[0]
		done, err := c.line(ctx, b, q, next, &size)
		if err != nil {
			return err
		}
		if !done {
			break // the page is full
		}
		c.due = c.due[1:]
		q.due = false
	}
	if len(b.records) == 0 {
		return nil
	}
	b.oldest = time.Time{}
	if err := c.framer.addFresh(b); err != nil {
		return err
	}
	return l.publish(work, next, b, began)
}

// waiting counts the events of the lines that are due, up to a page.
func (c *clerk) waiting() int {
	n := 0
	for _, q := range c.due {
		if n += q.size(); n >= c.pageSize() {
			break
		}
	}
	return n
}

// line takes events of a line into the page until it is empty or stops, which is done, or the page is full.
func (c *clerk) line(ctx context.Context, b *batch, q *queue, next *cursor, size *int) (done bool, err error) {
	for len(q.events) > 0 {
		if !q.forced && q.head().reason != ReasonBehind {
			c.settle(q, &Outcome{Reason: q.head().reason})
			return true, nil
		}
		if b.published >= c.pageSize() || *size >= releaseBytes {
			return false, nil
		}
		stop, err := c.head(ctx, b, q, next, size)
		if err != nil {
			return false, err
		}
		if stop != nil {
			c.settle(q, stop)
			return true, nil
		}
	}
	c.settle(q, nil)
	return true, nil
}

// head frames a line's first event anew, as if it came now, or says why the line stops at it.
func (c *clerk) head(ctx context.Context, b *batch, q *queue, next *cursor, size *int) (*Outcome, error) {
	h := *q.head()
	p, err := c.contents.record(ctx, h)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return c.stop(b, q, nil, faultf(ReasonGone, "the parked topic does not hold its record any more: it can be discarded"))
	}
	e, wrong, err := p.event(ctx, c.contents)
	if wrong == nil && err == nil {
		wrong, err = c.fit(ctx, b, &e, next)
	}
	if err != nil {
		return nil, err
	}
	if wrong != nil {
		return c.stop(b, q, p, wrong)
	}
	*size += len(e.Payload) + len(e.Body) + len(e.Headers) + len(e.Key)
	b.released++
	request := int64(0)
	if q.asked != nil {
		request = q.asked.id
	}
	c.drop(b, q, &h, tombstone(parkedTopic(c.cfg.Outbox), h.id, request, DoneReleased))
	if q.asked != nil {
		q.asked.answer.Released++
		q.asked.answer.add(Outcome{EventID: h.id, Topic: q.topic, Key: q.key, Done: DoneReleased, Seq: next.Seq})
	}
	return nil, nil
}

// fit frames an event that was parked. If the registry does not answer, its line goes on waiting, and not the stream.
func (c *clerk) fit(ctx context.Context, b *batch, e *store.Event, next *cursor) (*fault, error) {
	c.framer.ids.hurry = true
	defer func() { c.framer.ids.hurry = false }()
	return c.framer.fit(ctx, b, e, next)
}

// drop takes an event off the parked topic, by the record given, and out of its line.
func (c *clerk) drop(b *batch, q *queue, h *held, gone *kgo.Record) {
	b.add(gone)
	b.free = append(b.free, h.id)
	c.lines.remove(q, h.position)
}

// stop leaves a line as it is. Why its head cannot be published is written down, unless that is known: the head may have been
// parked for another reason, or only for waiting.
func (c *clerk) stop(b *batch, q *queue, p *Parked, wrong *fault) (*Outcome, error) {
	h := q.head()
	o := &Outcome{Reason: wrong.reason, Field: wrong.field, Detail: wrong.detail}
	h.reason = wrong.reason
	if wrong.reason == ReasonRegistry {
		c.lines.waiting = append(c.lines.waiting, q)
	}
	if p == nil || p.Reason == wrong.reason && (wrong.reason == ReasonRegistry || p.Field == wrong.field && p.Detail == wrong.detail) {
		return o, nil
	}
	again := *p
	again.Reason, again.Field, again.Detail = wrong.reason, shorten(wrong.field), shorten(wrong.detail)
	return o, c.framer.hold(b, q, &again)
}

// settle ends the release of a line: it is empty, or it stopped.
func (c *clerk) settle(q *queue, stop *Outcome) {
	q.forced = false
	if stop != nil {
		stop.EventID, stop.Topic, stop.Key, stop.Done, stop.Behind = q.head().id, q.topic, q.key, DoneParked, int64(q.size()-1)
	}
	if q.asked != nil {
		q.asked.settled(q, stop)
	}
}
