package consumers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Drop says which of a key's dead letters are given up, so that those behind them can be applied.
type Drop string

// What may be dropped. None of it concerns an event that came after the asker looked: offsets of Request.To and above.
const (
	// DropNothing redrives: every event is applied, or the key stays quarantined at the first that cannot be.
	DropNothing Drop = ""
	// DropFirst gives up the event at Request.From, and no other.
	DropFirst Drop = "first"
	// DropPoison gives up each event that turns out to be impossible to apply.
	DropPoison Drop = "poison"
	// DropAll gives up every event.
	DropAll Drop = "all"
)

// Request asks the owner of a partition to do something about one key's dead letters, in the lane of the partition, between two
// batches. It is a record of the sink's control topic and stays there until it is answered: whichever process owns the partition
// carries it out, once in effect.
type Request struct {
	// ID tells requests apart; 1 to 64 characters.
	ID        string    `json:"request"`
	At        time.Time `json:"at"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	// Key is the quarantined key; empty for an event without a usable one, which is the one at From.
	Key string `json:"key"`
	// From and To are the offsets of the first of the key's pending events that the asker saw, and one more than that of the last.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	Drop Drop  `json:"drop,omitempty"`

	// Repair asks for something else: that the key be folded anew from its first event and stored at an equal version, whatever stands there. From and To are
	// of no meaning then. The events at the offsets in Skip were given up and are left out; at most 4,096. Remove takes away a state for which there is no event.
	Repair bool    `json:"repair,omitempty"`
	Skip   []int64 `json:"skip,omitempty"`
	Remove bool    `json:"remove,omitempty"`

	size int // in bytes, as it was read
}

// Outcome is what became of a request.
type Outcome string

// The outcomes of a request.
const (
	// Underway is told from time to time while letters are being applied; another answer follows.
	Underway Outcome = "underway"
	// Done: no letter of the key is pending any more, and the quarantine is lifted.
	Done Outcome = "done"
	// Stuck: an event cannot be applied. What stands before it is applied; it and what is behind it stay quarantined.
	Stuck Outcome = "stuck"
	// Nothing: the key is not quarantined by what the asker saw. It was redriven or discarded before.
	Nothing Outcome = "nothing"
	// Failed: it could not be tried; Detail says why. Nothing, or a part, was applied.
	Failed Outcome = "failed"
)

// Answer says what became of a Request. It is a record of the control topic.
type Answer struct {
	// ID, Topic, Partition and Key are the request's.
	ID        string    `json:"answer"`
	At        time.Time `json:"at"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Key       string    `json:"key"`
	// From is the request's, for an event without a key.
	From    int64   `json:"from"`
	Outcome Outcome `json:"outcome"`
	// Drop is the request's: an answer takes the place of its request, and which events were given up must stay known.
	Drop Drop `json:"drop,omitempty"`
	// Repair is the request's.
	Repair bool `json:"repair,omitempty"`
	// Applied and Dropped count events.
	Applied int64 `json:"applied"`
	Dropped int64 `json:"dropped"`
	// Below is the offset below which no letter of the key is pending any more. Place is where the dead-letter topic ended when
	// that was so: a letter written later counts anew.
	Below int64 `json:"below"`
	Place int64 `json:"place"`
	// Detail says for a person what an event is stuck at, or what failed.
	Detail string `json:"detail,omitempty"`
}

// ControlTopic is the topic of the requests to a sink and of their answers.
func ControlTopic(sink string) string { return "__millrace." + sink + ".control" }

// maxControl is the size in bytes of the largest record of a control topic.
const maxControl = 64 << 10

var errNotControl = errors.New("neither a request nor an answer")

// ReadControl reads a record of a control topic: a request or an answer. Anybody may have written it.
func ReadControl(value []byte) (*Request, *Answer, error) {
	if len(value) > maxControl || !utf8.Valid(value) {
		return nil, nil, errNotControl
	}
	var kind struct {
		Request string `json:"request"`
		Answer  string `json:"answer"`
	}
	if err := json.Unmarshal(value, &kind); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errNotControl, err)
	}
	switch {
	case kind.Request != "" && kind.Answer == "":
		q := new(Request)
		return q, nil, readStrictly(value, q, q.validate)
	case kind.Answer != "" && kind.Request == "":
		a := new(Answer)
		return nil, a, readStrictly(value, a, a.validate)
	}
	return nil, nil, errNotControl
}

func readStrictly(value []byte, into any, validate func() error) error {
	dec := json.NewDecoder(bytes.NewReader(value))
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errNotControl, err)
	}
	return validate()
}

// MaxSkip is the most events that a repair leaves out.
const MaxSkip = 4096

func (q *Request) validate() error {
	ev := Event{Key: q.Key}
	switch {
	case len(q.ID) > 64, q.Topic == "", len(q.Topic) > maxTopicName, q.Partition < 0:
		return fmt.Errorf("%w: a request of no partition", errNotControl)
	case q.Key != "" && !ev.HasKey():
		return fmt.Errorf("%w: a request for what can be no key", errNotControl)
	case q.Repair && (q.Key == "" || q.Drop != DropNothing || len(q.Skip) > MaxSkip):
		return fmt.Errorf("%w: a repair of key %q that drops %q and skips %d events", errNotControl, cut(q.Key, 40), cut(string(q.Drop), 40), len(q.Skip))
	case q.Repair:
		return nil
	case q.From < 0, q.To <= q.From:
		return fmt.Errorf("%w: a request for offsets %d to %d", errNotControl, q.From, q.To)
	}
	switch q.Drop {
	case DropNothing, DropFirst, DropPoison, DropAll:
		return nil
	}
	return fmt.Errorf("%w: a request that drops %q", errNotControl, cut(string(q.Drop), 40))
}

func (a *Answer) validate() error {
	if len(a.ID) > 64 || a.Topic == "" || len(a.Topic) > maxTopicName || a.Partition < 0 {
		return fmt.Errorf("%w: an answer for no partition", errNotControl)
	}
	a.Detail = cut(a.Detail, maxReason)
	return nil
}

// TopicPartition is the partition whose owner is asked.
func (q *Request) TopicPartition() TopicPartition {
	return TopicPartition{Topic: q.Topic, Partition: q.Partition}
}

// TopicPartition is the partition whose owner answers.
func (a *Answer) TopicPartition() TopicPartition {
	return TopicPartition{Topic: a.Topic, Partition: a.Partition}
}

// drops says whether the event at an offset is given up without being tried.
func (q *Request) drops(offset int64) bool {
	return q.Drop == DropFirst && offset == q.From || q.Drop == DropAll && offset < q.To
}

// answer begins an answer.
func (q *Request) answer(o Outcome) *Answer {
	return &Answer{ID: q.ID, Topic: q.Topic, Partition: q.Partition, Key: q.Key, From: q.From, Drop: q.Drop, Repair: q.Repair, Outcome: o}
}
