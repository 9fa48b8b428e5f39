package outbox

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// Event is what can be written: a Record, an Envelope, or a struct of the application's own with avro tags, whose
// method names the schema:
//
//	type OrderPaid struct {
//		OrderID string   `avro:"order_id"`
//		Total   *big.Rat `avro:"total"`
//	}
//
//	func (OrderPaid) EventType() string { return "shop.OrderPaid" }
//
// A field of the schema that the struct lacks gets its default, and is an error if it has none; a field of the struct
// that the schema lacks is an error (the tag avro:"-" leaves it out). A Go type is compared with its schema once.
type Event interface {
	// EventType is the full name of the event's schema.
	EventType() string
}

// Keyer is an Event that gives its key, if it is not simply the value of the field that the schema names. An empty
// key means that field.
type Keyer interface {
	Event
	EventKey() string
}

// Record is an event without a Go type of its own.
type Record struct {
	// Type is the full name of the schema, such as "shop.OrderPaid".
	Type string
	// Fields holds the values by name: Go values as package schemas/avro takes them, or what encoding/json makes of a
	// document. A field that is left out gets its default; one that the schema does not have is an error.
	Fields map[string]any

	// Key is the event's key. Default: the value of the field that the schema's millrace.key names.
	Key string
	// Topic is the Kafka topic. Default: the schema's millrace.topic.
	Topic string
	// ID identifies the event for ever: consumers take it as the idempotency key. Default: a new one, see NewID.
	ID [16]byte
	// Headers travel with the event. Names are lower case letters, digits, ".", "_" and "-"; those that begin with
	// ce_ or millrace- are reserved, but for HeaderTenant and HeaderSnapshot. They win over those of WithHeaders.
	Headers map[string]string
	// OccurredAt is when it happened. Default: the database's clock at the INSERT.
	OccurredAt time.Time
}

// EventType returns Type.
func (r Record) EventType() string { return r.Type }

// Envelope adds to an event what its Go type does not say. The fields mean what they mean in Record.
type Envelope struct {
	Event      Event
	Key        string
	Topic      string
	ID         [16]byte
	Headers    map[string]string
	OccurredAt time.Time
}

// EventType returns the type of the event inside.
func (e Envelope) EventType() string {
	if e.Event == nil {
		return ""
	}
	return e.Event.EventType()
}

// NewID returns a new event id, a UUID of version 7: the time in milliseconds, then random bits.
func NewID() [16]byte {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(time.Now().UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// view is an event of any kind, taken apart.
type view struct {
	Record
	value any // what is encoded: a map or a struct
}

// open takes an event apart. Its second result is false for nil and for an envelope without an event.
func open(e Event) (view, bool) {
	switch e := e.(type) {
	case nil:
		return view{}, false
	case Record:
		return openRecord(e), true
	case *Record:
		if e == nil {
			return view{}, false
		}
		return openRecord(*e), true
	case Envelope:
		return openEnvelope(e)
	case *Envelope:
		if e == nil {
			return view{}, false
		}
		return openEnvelope(*e)
	}
	if isNilPointer(e) {
		return view{}, false
	}
	v := view{Record: Record{Type: e.EventType()}, value: e}
	if k, ok := e.(Keyer); ok {
		v.Key = k.EventKey()
	}
	return v, true
}

func openRecord(r Record) view {
	if r.Fields == nil {
		r.Fields = map[string]any{}
	}
	return view{Record: r, value: r.Fields}
}

func openEnvelope(e Envelope) (view, bool) {
	v, ok := open(e.Event)
	if e.Key != "" {
		v.Key = e.Key
	}
	if e.Topic != "" {
		v.Topic = e.Topic
	}
	if e.ID != ([16]byte{}) {
		v.ID = e.ID
	}
	if e.Headers != nil {
		v.Headers = e.Headers
	}
	if !e.OccurredAt.IsZero() {
		v.OccurredAt = e.OccurredAt
	}
	return v, ok
}
