package relay

// line is what must stay in order: the events of one key in one topic.
type line struct{ topic, key string }

// lines are the keys that have parked events. It belongs to the loop; start fills it from the parked topic.
type lines struct {
	last   map[line]int64 // highest position in each line
	events int64
}

func newLines() *lines { return &lines{last: map[line]int64{}} }

// blocked says whether an event of this key must wait behind a parked one.
//
// Promise 7: the key's later events are parked behind the bad one, in order.
func (l *lines) blocked(topic, key string) bool {
	if len(l.last) == 0 {
		return false
	}
	_, ok := l.last[line{topic, key}]
	return ok
}

// add takes the next place in the key's line.
func (l *lines) add(topic, key string) int64 {
	at := line{topic, key}
	l.last[at]++
	l.events++
	return l.last[at]
}

// load counts a parked event that was read back. Events of a line may come in any order.
func (l *lines) load(p *Parked) {
	at := line{p.Topic, p.Key}
	l.last[at] = max(l.last[at], p.Position)
	l.events++
}
