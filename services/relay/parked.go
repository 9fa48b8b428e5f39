package relay

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
)

// Reason says why an event was parked.
type Reason string

const (
	// ReasonBody: the JSON body does not fit the event's schema.
	ReasonBody Reason = "body"
	// ReasonHeaders: the headers are not an object of strings, or use a reserved name.
	ReasonHeaders Reason = "headers"
	// ReasonSchema: the event's schema is not in the outbox, or cannot be used.
	ReasonSchema Reason = "schema"
	// ReasonRefused: the registry refused the schema.
	ReasonRefused Reason = "refused"
	// ReasonTopic: events may not go to this topic.
	ReasonTopic Reason = "topic"
	// ReasonKey: the key is empty, longer than 8 KiB or not UTF-8.
	ReasonKey Reason = "key"
	// ReasonSize: the record would be larger than MaxRecordBytes, or than its topic takes (max.message.bytes).
	ReasonSize Reason = "size"
	// ReasonRegistry: the schema's id is not known and the registry does not answer. Released by itself when it does.
	ReasonRegistry Reason = "registry"
	// ReasonGone: the contents were in the outbox table only, and the row is no longer there. It can only be discarded.
	ReasonGone Reason = "gone"
	// ReasonHeld: nothing is wrong with the event; the one before it was discarded with the wish that the line stays.
	ReasonHeld Reason = "held"
	// ReasonBehind: nothing is wrong with the event; an earlier one of its key is parked.
	ReasonBehind Reason = "behind"
	// ReasonAnnounced: nothing is wrong with the event any more; it was parked when it was first tried (at-least-once).
	ReasonAnnounced Reason = "announced"
)

var reasons = []Reason{ReasonBody, ReasonHeaders, ReasonSchema, ReasonRefused, ReasonTopic, ReasonKey, ReasonSize, ReasonRegistry,
	ReasonGone, ReasonHeld, ReasonBehind, ReasonAnnounced}

// Reasons lists why events are parked.
func Reasons() []Reason { return slices.Clone(reasons) }

// interned returns the same string for all events that have a reason, for there may be many.
func (r Reason) interned() Reason {
	if i := slices.Index(reasons, r); i >= 0 {
		return reasons[i]
	}
	return r
}

// Parked is an event that the relay holds: a record on the parked topic, keyed by the event's id.
type Parked struct {
	// V is the version of the record: 1.
	V int `json:"v"`
	// EventID, Topic, Key, Type and OccurredAt are the event's own. Of a text above 8 KiB, here and below, the beginning is
	// kept, and its hash.
	EventID    uuid.UUID `json:"event_id"`
	Topic      string    `json:"topic"`
	Key        string    `json:"key"`
	Type       string    `json:"type"`
	OccurredAt time.Time `json:"occurred_at"`
	// Row is its id in the outbox table.
	Row int64 `json:"row"`
	// Fingerprint names the schema it was written with, in hexadecimal.
	Fingerprint string `json:"fingerprint"`
	// Reason says why it is parked, Field names the field at fault where there is one, and Detail tells it in words.
	Reason Reason `json:"reason"`
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Position is its place among the parked events of its topic and key, from 1: the order of their release.
	Position int64 `json:"position"`
	// Alone says that the key's later events do not wait for it: it was parked by itself (on_poison: park-event).
	Alone bool `json:"alone,omitempty"`
	// ParkedAt is when it was parked.
	ParkedAt time.Time `json:"parked_at"`
	// Payload (Avro binary) or Body (JSON), and Headers, are as in the row. Body and Headers are text, for what is parked
	// may not be the JSON it claims to be.
	Payload []byte `json:"payload,omitempty"`
	Body    string `json:"body,omitempty"`
	Headers string `json:"headers,omitempty"`
	// Omitted says that payload, body and headers were too large for the parked topic: they are in the outbox table only.
	Omitted bool `json:"omitted,omitempty"`
}

// maxParkedBytes bounds a record of the parked topic.
const maxParkedBytes = 16 << 20

// fault is why an event cannot be published.
type fault struct {
	reason Reason
	field  string
	detail string
}

func faultf(reason Reason, format string, args ...any) *fault {
	return &fault{reason: reason, detail: fmt.Sprintf(format, args...)}
}

func park(e *store.Event, f *fault, position int64, now time.Time) *Parked {
	return &Parked{
		V: 1, EventID: e.EventID, Topic: e.Topic, Key: e.Key, Type: shorten(e.Type), OccurredAt: sane(e.OccurredAt), Row: e.ID,
		Fingerprint: e.Fingerprint.String(), Reason: f.reason, Field: shorten(f.field), Detail: shorten(f.detail), Position: position,
		ParkedAt: now.UTC(), Payload: e.Payload, Body: string(e.Body), Headers: string(e.Headers),
	}
}

// shorten keeps a record small whose contents are left out: no text in it is without bound. Different texts stay different.
func shorten(text string) string {
	if len(text) <= maxKeyBytes {
		return text
	}
	return fmt.Sprintf("%s... (%d bytes, SHA-256 %x)", strings.ToValidUTF8(text[:256], ""), len(text), sha256.Sum256([]byte(text)))
}

// line is where the event waits.
func (p *Parked) line() line {
	at := line{topic: p.Topic, key: p.Key}
	if p.Alone {
		at.alone = p.EventID
	}
	return at
}

// encode makes the record, of at most limit bytes if that can be had by leaving the contents out.
func (p *Parked) encode(limit int) ([]byte, error) {
	value, err := json.Marshal(p)
	if err != nil || len(value) <= limit {
		return value, err
	}
	p.Omitted = true
	short := *p
	short.Payload, short.Body, short.Headers = nil, "", ""
	return json.Marshal(&short)
}

// decodeParked reads a record of the parked topic; nil for one that says that its event was discarded.
func decodeParked(value []byte) (*Parked, error) {
	var p Parked
	if len(value) > 2*maxParkedBytes {
		return nil, fmt.Errorf("parked record of %d bytes", len(value))
	}
	if err := json.Unmarshal(value, &p); err != nil {
		return nil, fmt.Errorf("parked record: %w", err)
	}
	if p.V == discardedVersion {
		return nil, nil
	}
	if p.V != 1 {
		return nil, fmt.Errorf("parked record of version %d, this relay reads 1 and 2", p.V)
	}
	return &p, nil
}
