package relay

import (
	"context"
	"time"

	"github.com/millrace/millrace/schemas"
)

// probe asks the registry, while lines wait for it, whether it answers again. It asks beside the loop: a registry that is cut off
// takes its time to say nothing.
type probe struct {
	registry Registry
	retry    backoff
	attempt  int
	at       time.Time  // of the next
	asked    chan error // nil while nothing is asked
	end      context.CancelFunc
}

// askRegistry has the lines released that wait for the registry once it answers. They are known from the parked topic, so that a
// restart or a takeover makes no difference; a line that meets an outage again waits again.
func (c *clerk) askRegistry(ctx context.Context, now time.Time) error {
	p := &c.probe
	if p.asked != nil {
		select {
		case err := <-p.asked:
			p.asked = nil
			p.end()
			c.answered(err, now)
		default:
		}
		return nil
	}
	c.lines.waiting = stillWaiting(c.lines.waiting)
	if len(c.lines.waiting) == 0 || now.Before(p.at) {
		return nil
	}
	subject, schema, err := c.schemaOf(ctx, c.lines.waiting[0])
	if err != nil {
		return err
	}
	if schema == nil { // nothing to ask about; the line stops there for another reason
		c.queue(c.lines.waiting[0], true, nil)
		c.lines.waiting = c.lines.waiting[1:]
		return nil
	}
	asking, end := context.WithCancel(ctx)
	asked := make(chan error, 1)
	p.asked, p.end = asked, end
	go func() { // answered, or close, waits for it
		_, err := p.registry.Register(asking, subject, schema.Text)
		asked <- err
	}()
	return nil
}

// stillWaiting drops the lines that were released or discarded since.
func stillWaiting(all []*queue) []*queue {
	for len(all) > 0 && (len(all[0].events) == 0 || all[0].head().reason != ReasonRegistry) {
		all = all[1:]
	}
	return all
}

// answered takes the outcome of a probe.
func (c *clerk) answered(err error, now time.Time) {
	p, ids := &c.probe, c.framer.ids
	if err != nil && !refuses(err) {
		ids.away(err)
		p.at = now.Add(p.retry.pause(p.attempt))
		p.attempt++
		// The next probe asks about another schema: the registry may have trouble with this one alone.
		c.lines.waiting = append(c.lines.waiting[1:], c.lines.waiting[0])
		return
	}
	p.attempt = 0
	p.at = now.Add(p.retry.pause(0))
	ids.answers()
	ids.forgetFaults()
	from := len(c.due)
	for _, q := range c.lines.waiting {
		if len(q.events) > 0 && q.head().reason == ReasonRegistry {
			c.queue(q, true, nil)
		}
	}
	c.lines.waiting = nil
	c.order(c.due[from:])
}

// schemaOf returns the schema that a line's head waits for, and its subject; nil if that cannot be told.
func (c *clerk) schemaOf(ctx context.Context, q *queue) (string, *schemas.Schema, error) {
	p, err := c.contents.record(ctx, *q.head())
	if p == nil || err != nil {
		return "", nil, err
	}
	e, wrong, err := p.event(ctx, c.contents)
	if wrong != nil || err != nil {
		return "", nil, err
	}
	schema, err := c.framer.ids.lookup(ctx, e.Fingerprint)
	if err != nil {
		if c.framer.ids.missing(err) {
			err = nil
		}
		return "", nil, err
	}
	return c.framer.ids.subject(e.Topic, schema.Name), schema, nil
}

// close waits for what is asked.
func (c *clerk) close() {
	if c.probe.asked != nil {
		c.probe.end()
		<-c.probe.asked
	}
}
