package relay

import (
	"cmp"
	"slices"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// line is what must stay in order: the events of one key in one topic. An event that is parked by itself is a line of its own.
type line struct {
	topic, key string
	alone      uuid.UUID // the event that is parked by itself
}

// held is a parked event as the relay remembers it; the rest is on the parked topic.
type held struct {
	id       uuid.UUID
	position int64
	offset   int64 // of its record
	size     int32 // of its record's value, in bytes
	gone     bool  // released or discarded, and not yet swept
	reason   Reason
}

// seat is where a parked event is.
type seat struct {
	queue    *queue
	position int64
}

// queue is a line that has parked events.
type queue struct {
	line
	last   int64  // highest position given out
	events []held // by position; the first is not gone
	gone   int    // how many of them are

	// due says that the clerk is to release it, forced that its head is tried whatever it was parked for, asked for whom.
	due, forced bool
	asked       *job
}

func (q *queue) head() *held { return &q.events[0] }

// size counts the parked events.
func (q *queue) size() int { return len(q.events) - q.gone }

// find returns the index of a position.
func (q *queue) find(position int64) (int, bool) {
	return slices.BinarySearchFunc(q.events, position, func(h held, p int64) int { return cmp.Compare(h.position, p) })
}

// put takes an event in at its position, or again if it is there.
func (q *queue) put(h held) {
	i, there := q.find(h.position)
	if there {
		if q.events[i].gone {
			q.gone--
		}
		q.events[i] = h
		return
	}
	q.events = slices.Insert(q.events, i, h)
	q.last = max(q.last, h.position)
}

// lines are the keys that have parked events. It belongs to the loop; start fills it from the parked topic.
type lines struct {
	all    map[line]*queue
	events int64
	// waiting are the lines whose head waits for the registry; some may have been released or discarded since.
	waiting []*queue
}

func newLines() *lines { return &lines{all: map[line]*queue{}} }

// blocked says whether an event of this key must wait behind a parked one.
//
// Promise 7: the key's later events are parked behind the bad one, in order.
func (l *lines) blocked(topic, key string) bool {
	if len(l.all) == 0 {
		return false
	}
	_, ok := l.all[line{topic: topic, key: key}]
	return ok
}

func (l *lines) queue(at line) *queue {
	q, ok := l.all[at]
	if !ok {
		q = &queue{line: at}
		l.all[at] = q
	}
	return q
}

// add takes the next place in a line.
func (l *lines) add(at line, id uuid.UUID, reason Reason) *queue {
	q := l.queue(at)
	q.last++
	q.events = append(q.events, held{id: id, position: q.last, reason: reason})
	if l.events++; len(q.events) == 1 && reason == ReasonRegistry {
		l.waiting = append(l.waiting, q)
	}
	return q
}

// remove takes an event out of its line, and forgets the line when it was the last. Whoever is behind moves up.
func (l *lines) remove(q *queue, position int64) bool {
	if !q.has(position) {
		return false
	}
	i, _ := q.find(position)
	q.events[i].gone = true
	q.gone++
	q.sweep()
	if l.events--; len(q.events) == 0 && l.all[q.line] == q {
		delete(l.all, q.line)
	}
	return true
}

// has says whether the event at a position is still parked.
func (q *queue) has(position int64) bool {
	i, there := q.find(position)
	return there && !q.events[i].gone
}

// sweep drops what is gone from the front of a line, as a release leaves it, again and again, and all of it once it is more than what
// is left: to close the gap after each event would take a discard of a long line quadratic time.
func (q *queue) sweep() {
	for len(q.events) > 0 && q.events[0].gone {
		q.events, q.gone = q.events[1:], q.gone-1
	}
	if q.gone > len(q.events)/2 {
		q.events, q.gone = slices.DeleteFunc(q.events, func(h held) bool { return h.gone }), 0
	}
}

// spot is where a record of the parked topic belongs once the broker has said at which offset it is.
type spot struct {
	queue    *queue
	position int64
	record   *kgo.Record
}

// placed takes the offsets and sizes of what was acknowledged.
func (b *batch) placed() {
	for _, p := range b.places {
		if i, ok := p.queue.find(p.position); ok {
			p.queue.events[i].offset, p.queue.events[i].size = p.record.Offset, int32(len(p.record.Value))
		}
	}
}

// lineLoader fills lines from the records of the parked topic, in the order of their offsets.
type lineLoader struct {
	lines   *lines
	where   map[uuid.UUID]seat
	earlier earlier
	pins    *pins // nil holds nothing
}

func newLineLoader() *lineLoader {
	return &lineLoader{lines: newLines(), where: map[uuid.UUID]seat{}, earlier: earlier{}}
}

// take counts a record: p is nil if it takes its event away.
func (l *lineLoader) take(r *kgo.Record, p *Parked) {
	if p == nil {
		l.away(r)
		return
	}
	l.pins.hold(p)
	at, again := l.where[p.EventID]
	if !again {
		at = seat{l.lines.queue(p.line()), p.Position}
		l.where[p.EventID] = at
		l.lines.events++
	}
	at.queue.put(held{id: p.EventID, position: at.position, offset: r.Offset, size: int32(len(r.Value)), reason: p.Reason.interned()})
}

func (l *lineLoader) away(r *kgo.Record) {
	id, err := uuid.ParseBytes(r.Key)
	if err != nil {
		return
	}
	l.earlier.note(id, r.Headers)
	l.pins.drop(id)
	if at, ok := l.where[id]; ok {
		l.lines.remove(at.queue, at.position)
		delete(l.where, id)
	}
}
