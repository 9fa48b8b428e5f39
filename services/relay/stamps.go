package relay

import (
	"math"
	"strconv"
	"time"
)

// span is how far from now a topic takes the timestamp of a record; before is 0 where it takes any that is past.
type span struct{ before, after time.Duration }

// Topic configs that bound timestamps. Brokers have no bound in the past and an hour in the future unless somebody says otherwise.
const (
	configBefore = "message.timestamp.before.max.ms"
	configAfter  = "message.timestamp.after.max.ms"
)

// span returns how far from now a record of the topic may be dated.
func (l *limits) span(topic string) span {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.spans[topic]; ok {
		return s
	}
	return span{after: maxAhead}
}

// spare is what is kept free of what a topic takes, half of it at most: for a clock that is not ours, and for what waits to be sent.
const spare = 5 * time.Minute

// setSpan takes one of the two configs.
func (l *limits) setSpan(topic, config, value string) {
	ms, err := strconv.ParseInt(value, 10, 64)
	if err != nil || ms < 0 {
		return
	}
	s, bounded := l.span(topic), ms <= math.MaxInt64/int64(time.Millisecond)
	taken := time.Duration(ms) * time.Millisecond
	switch {
	case bounded && config == configAfter:
		s.after = min(taken-min(taken/2, spare), maxAhead)
	case bounded:
		s.before = max(taken-min(taken/2, spare), time.Millisecond)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spans[topic] = s
}

// stamp is the record's time. A time that the topic refuses, or one before 1970, would stop the stream; such an event keeps it in
// ce_time only.
//
// Promise 7: an event that waited for longer than its topic takes timestamps back is published all the same.
func (t *target) stamp(occurred time.Time) (stamp time.Time, exact bool) {
	if t.span.before > 0 && occurred.Before(t.at.Add(-t.span.before)) || occurred.After(t.at.Add(t.span.after)) || occurred.UnixMilli() < 0 {
		return t.at, false
	}
	return occurred, true
}
