package consumers

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas/avro"
)

// TopicPartition names one partition of one topic: the unit of ownership, of order and of position.
type TopicPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

// Event is one record of a topic, decoded.
type Event struct {
	TopicPartition
	Offset int64
	// Key is the record's key: the entity's key.
	Key string
	// ID is the event's id (header ce_id), unique per event; empty on topics that carry none.
	ID string
	// Type is the full name of the writer's schema, for example "shop.OrderPlaced".
	Type string
	// Seq is the event's version: header millrace-seq, or offset+1 on topics of others. It grows within a topic's key.
	Seq int64
	// Time is when the event occurred (header ce_time, else the record's timestamp), UTC.
	Time time.Time
	// SchemaID is the registry's id from the frame.
	SchemaID int
	// Payload is the Avro binary as the writer made it, without the frame.
	Payload []byte
	// Err says why the record could not be decoded; such an event is poison. Value then holds the raw record value.
	Err error
	// Value is the raw record value, frame included. It is what a dead letter repeats.
	Value []byte

	headers  []kgo.RecordHeader
	selected *avro.Selection // what was decoded
	values   []any           // by selected
	fields   map[string]any  // made on demand
}

// Fields are the decoded values in the reader's layout, normalised as schemas/avro documents; nil when Err is set. The first call
// makes the map; it is to be read only.
func (e *Event) Fields() map[string]any {
	if e.fields == nil && e.selected != nil {
		if all, values := e.All(); all != nil {
			e.fields = all.Map(values)
		}
	}
	return e.fields
}

// Values are the values that the Processor's FieldReader asked for, as Selection.Append made them, for those who read many events by the
// number of a field. The selection is nil for an event with Err, or one that came from no record: then there is only Fields.
func (e *Event) Values() (*avro.Selection, []any) { return e.selected, e.values }

// All is Values for all fields. What was not asked for is decoded at each call. That cannot fail: every byte of the payload was looked at
// when the event was decoded.
func (e *Event) All() (*avro.Selection, []any) {
	if e.selected == nil {
		return nil, nil
	}
	all := e.selected.Codec().SelectAll()
	if len(all.Names()) == len(e.selected.Names()) {
		return all, e.values
	}
	values, err := all.Append(nil, e.Payload)
	if err != nil {
		return nil, nil
	}
	return all, values
}

// WithFields returns the event with the given values: for events that come from no record.
func (e Event) WithFields(fields map[string]any) Event {
	e.selected, e.values, e.fields = nil, nil, fields
	return e
}

// Header returns the value of a header of the record; of a doubled name the last one counts. It is empty if there is none.
func (e *Event) Header(name string) string {
	for i := len(e.headers) - 1; i >= 0; i-- {
		if e.headers[i].Key == name {
			return string(e.headers[i].Value)
		}
	}
	return ""
}

// Headers are the record's headers; of a doubled name the last one counts. The map is made at each call.
func (e *Event) Headers() map[string]string {
	m := make(map[string]string, len(e.headers))
	for _, h := range e.headers {
		m[h.Key] = string(h.Value)
	}
	return m
}

// RecordHeaders are the headers as they came, doubled names and all. They share the record's memory: to be read only.
func (e *Event) RecordHeaders() []kgo.RecordHeader { return e.headers }

// WithHeaders returns the event with the given headers: for events that come from no record.
func (e Event) WithHeaders(headers map[string]string) Event {
	e.headers = make([]kgo.RecordHeader, 0, len(headers))
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		e.headers = append(e.headers, kgo.RecordHeader{Key: name, Value: []byte(headers[name])})
	}
	return e
}

// WithRecordHeaders returns the event with the given headers as they are, doubled names and all: for events that come from no record.
func (e Event) WithRecordHeaders(headers []kgo.RecordHeader) Event {
	e.headers = headers
	return e
}

// Batch is a run of one partition's records, in offset order. Records between From and Next that carry no event
// (transaction markers, aborted records) are not in Events; Next passes them.
type Batch struct {
	TopicPartition
	// From is the position before the batch: the offset that was to be applied next.
	From int64
	// Next is the position after the batch.
	Next   int64
	Events []Event
}

// maxKey is the size in bytes of the longest key that names an entity.
const maxKey = 8 << 10

// HasKey says whether the key can name an entity: text without a null character, not empty, at most 8 KiB. An event without
// such a key is poison and concerns no other event.
func (e *Event) HasKey() bool {
	return e.Key != "" && len(e.Key) <= maxKey && utf8.ValidString(e.Key) && !strings.Contains(e.Key, "\x00")
}
