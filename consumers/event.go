package consumers

import (
	"strings"
	"time"
	"unicode/utf8"
)

// TopicPartition names one partition of one topic: the unit of ownership, of order and of position.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Event is one record of a topic, decoded. Fields is nil when Err is set.
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
	// Headers are the record's headers; of a doubled name the last one counts.
	Headers map[string]string
	// SchemaID is the registry's id from the frame.
	SchemaID int
	// Payload is the Avro binary as the writer made it, without the frame.
	Payload []byte
	// Fields are the decoded values in the reader's layout, normalised as schemas/avro documents.
	Fields map[string]any
	// Err says why the record could not be decoded; such an event is poison. Value then holds the raw record value.
	Err error
	// Value is the raw record value, frame included. It is what a dead letter repeats.
	Value []byte
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
