package relay

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
)

// repeat is what the framer knows of an earlier attempt at a page.
type repeat struct {
	// landed are the events on the parked topic, those that the earlier attempt parked among them.
	landed map[uuid.UUID]seat
	// broken are the lines of events that the earlier attempt announced and that cannot be published any more.
	broken *lines
}

// again makes the record of an event as an intent announced it.
//
// Promise 3: a repeat stamps the same versions on the same events, and parks the same ones.
func (f *framer) again(ctx context.Context, b *batch, e *store.Event, i int, next *cursor) error {
	said := next.Intent
	if said.parked(i) {
		return f.parkAgain(ctx, b, e, next)
	}
	at, seq := line{topic: lineKey(e.Topic), key: lineKey(e.Key)}, said.seq(i, next.Seq)
	next.Seq = seq - 1
	var wrong *fault
	var err error
	// Not f.lines: the earlier attempt may have parked a later event of this key.
	if f.repeat.broken.blocked(at.topic, at.key) {
		wrong = &fault{reason: ReasonBehind}
	} else if wrong, err = f.fit(ctx, b, e, next); err != nil {
		return err
	}
	next.Seq = seq
	if wrong == nil {
		return nil
	}
	// Promise 7: somebody changed the configuration, or the registry its mind, between the attempts. The version is lost.
	f.repeat.broken.add(at, e.EventID, wrong.reason)
	return f.park(b, e, wrong, false)
}

// parkAgain parks an event at its place in the line, unless it is there already. Parked records land in order, so those that
// are missing are the last ones.
func (f *framer) parkAgain(ctx context.Context, b *batch, e *store.Event, next *cursor) error {
	if f.repeat.landed[e.EventID].queue != nil {
		return nil
	}
	wrong, err := f.publishable(ctx, newBatch(1), e, next.clone())
	if err != nil {
		return err
	}
	if wrong == nil {
		wrong = faultf(ReasonAnnounced, "it was parked when it was first tried")
	}
	return f.park(b, e, wrong, f.policy(e.Topic, wrong) == ParkEvent)
}

// again releases what an intent announced, as far as it is still parked: what is not was published before it left the parked
// topic.
//
// Promise 3: a repeat stamps the same versions on the same events.
func (c *clerk) again(ctx, work context.Context, l *loop) error {
	began, next := l.now(), l.cursor.clone()
	next.Intent = nil
	b := newBatch(len(l.cursor.Intent.Released))
	where := map[uuid.UUID]seat{}
	announced := make(map[uuid.UUID]bool, len(l.cursor.Intent.Released))
	for _, said := range l.cursor.Intent.Released {
		announced[said.Event] = true
	}
	var expected []held
	for _, q := range c.lines.all {
		for _, h := range q.events {
			if announced[h.id] && !h.gone {
				where[h.id] = seat{q, h.position}
				expected = append(expected, h)
			}
		}
	}
	if err := c.contents.expect(ctx, expected); err != nil {
		return err
	}
	broken := map[*queue]bool{}
	for _, said := range l.cursor.Intent.Released {
		next.Seq = said.Seq
		at := where[said.Event]
		if at.queue == nil || broken[at.queue] {
			continue
		}
		published, err := c.releaseAgain(ctx, b, at, said, next)
		if err != nil {
			return err
		}
		broken[at.queue] = !published
	}
	b.oldest = time.Time{}
	if err := c.framer.addFresh(b); err != nil {
		return err
	}
	return l.publish(work, next, b, began)
}

// releaseAgain is head for an event that has its version.
func (c *clerk) releaseAgain(ctx context.Context, b *batch, at seat, said release, next *cursor) (published bool, err error) {
	i, _ := at.queue.find(at.position)
	p, err := c.contents.record(ctx, at.queue.events[i])
	if err != nil || p == nil {
		return false, err
	}
	e, wrong, err := p.event(ctx, c.contents)
	if wrong == nil && err == nil {
		next.Seq = said.Seq - 1
		wrong, err = c.fit(ctx, b, &e, next)
		next.Seq = said.Seq
	}
	if err != nil || wrong != nil {
		return false, err // it stays, and its line behind it; the version is lost
	}
	b.released++
	b.add(tombstone(parkedTopic(c.cfg.Outbox), said.Event, said.Request, DoneReleased))
	c.lines.remove(at.queue, at.position)
	return true, nil
}
