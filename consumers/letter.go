package consumers

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Letter is a record of a dead-letter topic: an event that was put aside, as it was, and why.
type Letter struct {
	TopicPartition       // of the event
	Offset         int64 // of the event
	// Key is the event's key; what no key may be is in it as well, see HasKey.
	Key  string
	Type string
	ID   string
	// Class is LetterPoison or LetterQuarantined.
	Class  string
	Reason string
	// First is the offset at which the key's quarantine stood when the event was put aside.
	First int64
	// At is when it was put aside.
	At time.Time
	// Omitted is the size in bytes of a value that was too large to repeat; 0 if the value is here.
	Omitted int64
	// Place is the letter's own offset, and Leaf its partition, on the dead-letter topic.
	Place int64
	Leaf  int32
	// Record is the event's record as it was on its topic, for a Decoder. Its value is nil if it was omitted.
	Record *kgo.Record
}

// HasKey says whether the event belongs to an entity, so that its key is quarantined. One without a key was put aside alone.
func (l *Letter) HasKey() bool {
	ev := Event{Key: l.Key}
	return ev.HasKey()
}

// ErrNotALetter is why a record of a dead-letter topic is left out: it does not say which event it is. Somebody else wrote it.
var ErrNotALetter = errors.New("the record is no dead letter")

// letterHeaders are those that make a record a letter; the event's own come before them.
var letterHeaders = []string{HeaderLetterClass, HeaderLetterReason, HeaderLetterTopic, HeaderLetterPartition, HeaderLetterOffset,
	HeaderLetterFirst, HeaderLetterTime, HeaderLetterEventTime, HeaderLetterOmitted}

// ReadLetter reads a record of a dead-letter topic. Anybody may have written it: what does not name an event is ErrNotALetter.
func ReadLetter(r *kgo.Record) (Letter, error) {
	own := len(r.Headers)
	for own > 0 && slices.Contains(letterHeaders, r.Headers[own-1].Key) && r.Headers[own-1].Key != HeaderLetterClass {
		own--
	}
	if own == 0 || r.Headers[own-1].Key != HeaderLetterClass {
		return Letter{}, fmt.Errorf("offset %d: %w: header %s is missing", r.Offset, ErrNotALetter, HeaderLetterClass)
	}
	said := map[string]string{}
	for _, h := range r.Headers[own-1:] {
		said[h.Key] = string(h.Value)
	}
	l := Letter{Key: string(r.Key), Class: said[HeaderLetterClass], Reason: cut(said[HeaderLetterReason], maxReason), Place: r.Offset, Leaf: r.Partition}
	l.Topic = said[HeaderLetterTopic]
	partition, err1 := strconv.ParseInt(said[HeaderLetterPartition], 10, 32)
	offset, err2 := strconv.ParseInt(said[HeaderLetterOffset], 10, 64)
	first, err3 := strconv.ParseInt(said[HeaderLetterFirst], 10, 64)
	l.Partition, l.Offset, l.First = int32(partition), offset, first
	switch {
	case errors.Join(err1, err2, err3) != nil, partition < 0, offset < 0, first < 0, first > offset:
		return Letter{}, fmt.Errorf("offset %d: %w: partition %q, offset %q, first %q", r.Offset, ErrNotALetter,
			cut(said[HeaderLetterPartition], 40), cut(said[HeaderLetterOffset], 40), cut(said[HeaderLetterFirst], 40))
	case l.Topic == "", len(l.Topic) > maxTopicName:
		return Letter{}, fmt.Errorf("offset %d: %w: its topic has a name of %d bytes", r.Offset, ErrNotALetter, len(l.Topic))
	case l.Class != LetterPoison && l.Class != LetterQuarantined:
		return Letter{}, fmt.Errorf("offset %d: %w: class %q", r.Offset, ErrNotALetter, cut(l.Class, 40))
	}
	l.At = timeOf(said[HeaderLetterTime], r.Timestamp)
	if l.Omitted, _ = strconv.ParseInt(said[HeaderLetterOmitted], 10, 64); l.Omitted < 0 {
		l.Omitted = 0
	}
	l.Record = &kgo.Record{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Key: r.Key, Value: r.Value,
		Headers: r.Headers[: own-1 : own-1], Timestamp: timeOf(said[HeaderLetterEventTime], r.Timestamp)}
	for _, h := range l.Record.Headers { // of a doubled name the last one counts
		switch h.Key {
		case headerID:
			l.ID = cut(string(h.Value), maxShown)
		case headerType:
			l.Type = cut(string(h.Value), maxShown)
		}
	}
	return l, nil
}

// Bounds of what a letter may say of itself.
const (
	maxTopicName = 249 // Kafka's
	maxShown     = 500
)

func timeOf(text string, other time.Time) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return sane(t)
	}
	return sane(other)
}
