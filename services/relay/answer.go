package relay

import (
	"encoding/json"
	"strconv"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// Selection says which parked events to release. Lines are released from their heads, so an event in the middle of one means the
// line. One of Events, Topic with Key, Reason and All is set.
// Of what is listed or counted, a key means all of its events and a reason those alone that are parked for it.
type Selection struct {
	Events []uuid.UUID `json:"events,omitempty"`
	Topic  string      `json:"topic,omitempty"`
	Key    *string     `json:"key,omitempty"`
	// Reason selects the lines whose head was parked for it.
	Reason Reason `json:"reason,omitempty"`
	All    bool   `json:"all,omitempty"`
}

// discardArgs are the arguments of a request to discard.
type discardArgs struct {
	Events []uuid.UUID `json:"events"`
	// Hold keeps what is behind a discarded event parked.
	Hold bool `json:"hold,omitempty"`
	// Why are the asker's words.
	Why string `json:"why,omitempty"`
}

// drainArgs are the arguments of a request to drain.
type drainArgs struct {
	// Pause pauses the outbox when everything is published.
	Pause  bool   `json:"pause,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Answer is what the relay did for a request, or has done so far.
type Answer struct {
	// Released and Discarded count events, those before a restart in the middle included.
	Released  int64 `json:"released"`
	Discarded int64 `json:"discarded"`
	// Left counts the events of the lines in question that are still to be released.
	Left int64 `json:"left"`
	// Stopped counts the lines that stopped at an event which still cannot be published; it and those behind it stay parked.
	Stopped int64 `json:"stopped"`
	// Unknown counts the named events that are not parked.
	Unknown int64 `json:"unknown"`
	// Events tell what became of each, at most maxOutcomes of them: named ones that are not parked and heads of stopped lines
	// first. More counts the rest.
	Events []Outcome `json:"events,omitempty"`
	More   int64     `json:"more,omitempty"`
	// Refused says why nothing (more) was done. Empty if all of it was.
	Refused string `json:"refused,omitempty"`
	// Seq is the millrace-seq up to which a drained outbox is published.
	Seq int64 `json:"seq,omitempty"`
	// Pause is the pause that is in force after a request to pause, resume or drain; nil for none.
	Pause *store.Pause `json:"pause,omitempty"`
}

// maxOutcomes bounds the events that an answer names.
const maxOutcomes = 1000

// Done is what became of an event.
type Done string

const (
	// DoneReleased: it was published. DoneDiscarded: it was dropped.
	DoneReleased  Done = "released"
	DoneDiscarded Done = "discarded"
	// DoneParked: it stays parked, for the reason given.
	DoneParked Done = "parked"
	// DoneUnknown: no such event is parked; it was released or discarded before, or was never parked.
	DoneUnknown Done = "unknown"
)

// Outcome is what became of one event.
type Outcome struct {
	EventID uuid.UUID `json:"event_id"`
	Topic   string    `json:"topic,omitempty"`
	Key     string    `json:"key,omitempty"`
	Done    Done      `json:"done"`
	// Seq is the millrace-seq it was published with.
	Seq int64 `json:"seq,omitempty"`
	// Reason, Field and Detail say why it stays parked; Behind counts the events that wait behind it.
	Reason Reason `json:"reason,omitempty"`
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail,omitempty"`
	Behind int64  `json:"behind,omitempty"`
	// Before says that it was done by this request before the relay was started again in the middle of it.
	Before bool `json:"before,omitempty"`
}

// Join adds the answer to another request, for one that was asked in parts.
func (a *Answer) Join(b *Answer) {
	a.Released, a.Discarded, a.Left = a.Released+b.Released, a.Discarded+b.Discarded, b.Left
	a.Stopped, a.Unknown, a.More = a.Stopped+b.Stopped, a.Unknown+b.Unknown, a.More+b.More
	for _, o := range b.Events {
		a.add(o)
	}
	a.Refused = b.Refused
}

// add names an event. What needs attention comes before what went well.
func (a *Answer) add(o Outcome) {
	if len(a.Events) < maxOutcomes {
		a.Events = append(a.Events, o)
		return
	}
	a.More++
	if o.Done != DoneParked && o.Done != DoneUnknown {
		return
	}
	for i := len(a.Events) - 1; i >= 0; i-- {
		if d := a.Events[i].Done; d == DoneReleased || d == DoneDiscarded {
			a.Events[i] = o
			return
		}
	}
}

func (a *Answer) encode() []byte {
	text, err := json.Marshal(a)
	if err != nil { // it holds nothing that JSON cannot say
		return []byte(`{}`)
	}
	return text
}

// Headers of a record that takes a parked event away: for which request, and how.
const (
	headerRequest = "millrace-request"
	headerDone    = "millrace-done"
)

// tombstone takes an event off the parked topic; the record of a discard has a value as well. It names the request that it is for, so that one which a crash interrupted finds
// what it has done. request is 0 for what the relay does by itself.
func tombstone(topic string, id uuid.UUID, request int64, done Done) *kgo.Record {
	r := &kgo.Record{Topic: topic, Key: []byte(id.String())}
	if request != 0 {
		r.Headers = []kgo.RecordHeader{
			{Key: headerRequest, Value: strconv.AppendInt(nil, request, 10)}, {Key: headerDone, Value: []byte(done)},
		}
	}
	return r
}

// earlier is what requests have done before the relay started, as the parked topic tells.
type earlier map[int64]*before

type before struct {
	released, discarded int64
	events              map[uuid.UUID]Done // at most maxOutcomes
}

// note takes a tombstone's headers.
func (e earlier) note(id uuid.UUID, headers []kgo.RecordHeader) {
	var request int64
	var done Done
	for _, h := range headers {
		switch h.Key {
		case headerRequest:
			request, _ = strconv.ParseInt(string(h.Value), 10, 64)
		case headerDone:
			done = Done(h.Value)
		}
	}
	if request == 0 {
		return
	}
	b := e[request]
	if b == nil {
		b = &before{events: map[uuid.UUID]Done{}}
		e[request] = b
	}
	switch done {
	case DoneReleased:
		b.released++
	case DoneDiscarded:
		b.discarded++
	}
	if len(b.events) < maxOutcomes {
		b.events[id] = done
	}
}
