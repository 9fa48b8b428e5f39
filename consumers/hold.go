package consumers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sort"
	"time"
)

// ErrPassed is what Hold returns when a partition is behind the offset already: it cannot go back.
var ErrPassed = errors.New("the position has passed the offset")

// Held means that the lane stands where Hold has told it to.
const Held State = "held"

// hold says where lanes are to stand.
type hold struct {
	at map[TopicPartition]int64 // a partition that is not in it stands where it is
}

// standingAgain is how often Hold looks whether the lanes stand, beside being told so.
const standingAgain = 50 * time.Millisecond

// Hold makes the lanes of this process stand: each when its position is the offset that at says, a batch that would pass it being cut there; those of which at says nothing, and all if it is nil,
// where they are, when the batch in hand is applied. It returns when they stand, and they do until Release or another Hold. A partition that is given to this process
// meanwhile is held as well, and not waited for. ErrPassed says that a partition is behind its offset. After any error the lanes are held
// all the same. What is asked for dead letters goes on.
//
// Promise 8: two generations are compared at one cut, event for event.
func (c *Consumer) Hold(ctx context.Context, at map[TopicPartition]int64) error {
	h := &hold{at: maps.Clone(at)}
	c.held.Store(h)
	c.wakeLanes()
	t := time.NewTicker(standingAgain)
	defer t.Stop()
	for {
		if standing, err := c.standing(h); standing || err != nil {
			return err
		}
		select {
		case <-c.stood:
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("consumer %s: hold: %w", c.cfg.Name, ctx.Err())
		}
	}
}

// Release lets lanes go on that Hold has stopped.
func (c *Consumer) Release() {
	c.held.Store(nil)
	c.wakeLanes()
}

func (c *Consumer) wakeLanes() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lanes {
		wake(l.signal)
	}
}

// standing says whether every lane stands.
func (c *Consumer) standing(h *hold) (bool, error) {
	c.mu.Lock()
	lanes := maps.Clone(c.lanes)
	c.mu.Unlock()
	for tp, l := range lanes {
		l.mu.Lock()
		stands, next := l.stands == h, l.next
		l.mu.Unlock()
		if limit, ok := h.at[tp]; ok && next > limit {
			return false, fmt.Errorf("consumer %s: hold %s/%d at %d: %w: it is %d", c.cfg.Name, tp.Topic, tp.Partition, limit, ErrPassed, next)
		}
		if !stands {
			return false, nil
		}
	}
	return true, nil
}

// limit is the offset at which the lane is to stand, and false if it is not to. The lane's mutex is held.
func (l *lane) limit() (h *hold, limit int64, ok bool) {
	if h = l.c.held.Load(); h == nil {
		return nil, 0, false
	}
	if limit, ok = h.at[l.tp]; !ok {
		limit = l.next
	}
	return h, limit, true
}

// stand says whether the lane stands at its limit. The lane's mutex is held.
func (l *lane) stand() bool {
	h, limit, ok := l.limit()
	if !ok || l.next < limit && (l.next >= 0 || l.ahead.records == 0 || l.ahead.first < limit) {
		return false
	}
	l.stands, l.state = h, Held
	wake(l.c.stood)
	return true
}

// takeDecoded takes what is decoded, up to the offset at which the lane is to stand. The lane's mutex is held, and nobody decodes into the batch.
func (l *lane) takeDecoded() (b *Batch, records, bytes int) {
	a := &l.ahead
	b = &Batch{TopicPartition: l.tp, From: l.next, Next: a.next, Events: a.events}
	if b.From < 0 {
		b.From = a.first
	}
	if _, limit, ok := l.limit(); ok && a.next > limit {
		b.Next = limit
		b.Events, records, bytes = a.below(limit)
		return b, records, bytes
	}
	records, bytes = a.records, a.bytes
	a.reset()
	return b, records, bytes
}

// below splits off what stands below an offset that is among the records. Those without an event are counted with the rest.
func (a *ahead) below(limit int64) (events []Event, records, bytes int) {
	n := sort.Search(len(a.events), func(i int) bool { return a.events[i].Offset >= limit })
	events, records, bytes = a.events[:n:n], n, a.bytes*n/a.records
	a.events, a.first = a.events[n:], limit
	a.records, a.bytes = a.records-records, a.bytes-bytes
	return events, records, bytes
}
