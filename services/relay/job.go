package relay

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
)

// job is a request that is being carried out.
type job struct {
	id     int64
	kind   store.RequestKind
	by     string
	answer Answer

	// named are the events that the request names; open counts the lines that have not come to their end, or to a stop.
	named map[uuid.UUID]bool
	open  int
	// drop are the events still to be discarded, where says where each is; hold keeps what is behind them.
	drop  []uuid.UUID
	where map[uuid.UUID]seat
	hold  bool
	// why are the words of who asked.
	why string
	// committed is what a drain waits for; pause and reason are what comes after it.
	committed store.Snapshot
	pause     bool
	reason    string
}

// take begins the next request, if there is one.
func (c *clerk) take(l *loop) {
	r := c.desk.next()
	if r == nil {
		return
	}
	c.framer.ids.forgetFaults()
	j := &job{id: r.ID, kind: r.Kind, by: r.By, committed: r.Committed}
	c.job = j
	if b := c.earlier[r.ID]; b != nil {
		j.answer.Released, j.answer.Discarded = b.released, b.discarded
	}
	var err error
	switch r.Kind {
	case store.RequestRelease:
		err = c.beginRelease(j, r.Args)
	case store.RequestDiscard:
		err = c.beginDiscard(j, r.Args)
	case store.RequestDrain:
		var args drainArgs
		err = json.Unmarshal(r.Args, &args)
		j.pause, j.reason = args.Pause, args.Reason
	default:
		err = fmt.Errorf("this relay does not know the request %q", r.Kind)
	}
	if err != nil {
		j.answer.Refused = err.Error()
		j.open, j.drop, j.kind = 0, nil, store.RequestRelease // nothing of it is left to do
	}
}

func (c *clerk) beginRelease(j *job, raw []byte) error {
	var s Selection
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("the request cannot be read: %w", err)
	}
	if c.pause != nil {
		c.interrupt(j)
		return nil
	}
	from := len(c.due)
	if len(s.Events) > 0 {
		j.name(c, s.Events)
		for _, at := range j.where {
			c.queue(at.queue, true, j)
		}
	} else {
		for _, q := range c.lines.all {
			if s.selects(q) {
				c.queue(q, true, j)
			}
		}
	}
	c.order(c.due[from:])
	return nil
}

func (s *Selection) selects(q *queue) bool {
	switch {
	case s.All:
		return true
	case s.Reason != "":
		return q.head().reason == s.Reason
	case s.Key != nil:
		return q.topic == lineKey(s.Topic) && q.key == lineKey(*s.Key)
	}
	return false
}

func (c *clerk) beginDiscard(j *job, raw []byte) error {
	var args discardArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return fmt.Errorf("the request cannot be read: %w", err)
	}
	j.hold, j.why = args.Hold, args.Why
	j.name(c, args.Events)
	for _, id := range args.Events {
		if j.where[id].queue != nil && j.named[id] {
			j.drop = append(j.drop, id)
			j.named[id] = false // once
		}
	}
	return nil
}

// name finds the lines of the events that the request names, and says of those that are not parked what became of them.
func (j *job) name(c *clerk, events []uuid.UUID) {
	j.named, j.where = make(map[uuid.UUID]bool, len(events)), make(map[uuid.UUID]seat, len(events))
	for _, id := range events {
		j.named[id] = true
	}
	for _, q := range c.lines.all {
		for i := range q.events {
			if h := &q.events[i]; j.named[h.id] && !h.gone {
				j.where[h.id] = seat{q, h.position}
			}
		}
	}
	for _, id := range events {
		if j.where[id].queue != nil || !j.named[id] {
			continue
		}
		delete(j.named, id)
		if b := c.earlier[j.id]; b != nil && b.events[id] != "" {
			j.answer.add(Outcome{EventID: id, Done: b.events[id], Before: true})
			continue
		}
		j.answer.Unknown++
		j.answer.add(Outcome{EventID: id, Done: DoneUnknown})
	}
}

// done says whether nothing of the request is left to do.
func (j *job) done(l *loop) bool {
	if j.kind == store.RequestDrain {
		return l.covers(j.committed)
	}
	return len(j.drop) == 0 && j.open == 0
}

// left counts the events that wait in the lines of the request.
func (j *job) left(c *clerk) int64 {
	n := int64(len(j.drop))
	for _, q := range c.due {
		if q.asked == j {
			n += int64(q.size())
		}
	}
	return n
}

// settled takes note of a line that is empty, or that stopped.
func (j *job) settled(q *queue, stop *Outcome) {
	q.asked = nil
	j.open--
	if stop == nil {
		return
	}
	j.answer.Stopped++
	j.answer.add(*stop)
	delete(j.named, stop.EventID)
}

// conclude completes the answer.
func (j *job) conclude(c *clerk, l *loop) {
	switch j.kind {
	case store.RequestDrain:
		j.answer.Seq, j.answer.Pause = l.cursor.Seq, c.pause
	case store.RequestRelease:
		for id, at := range j.where {
			q := at.queue
			if !j.named[id] || !q.has(at.position) {
				continue
			}
			j.answer.add(Outcome{EventID: id, Topic: q.topic, Key: q.key, Done: DoneParked, Reason: ReasonBehind,
				Detail: "it waits behind event " + q.head().id.String()})
		}
	}
}

// covers says whether everything is published, and known to be, of the transactions that the snapshot sees as completed.
func (l *loop) covers(s store.Snapshot) bool {
	if l.cursor.inWindow() || l.cursor.Last.Xmax < s.Xmax {
		return false
	}
	for _, xid := range l.cursor.Last.Xip {
		if s.Sees(xid) {
			return false
		}
	}
	return true
}
