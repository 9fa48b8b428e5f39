package relay

import (
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// batch is what one Kafka transaction carries besides the cursor.
type batch struct {
	records []*kgo.Record
	// published and parked count the events among the records; schema ids are records as well.
	published, parked int
	// released counts those of the published that were parked before, discarded what was dropped from the parked topic.
	released, discarded int
	// free are the events among these two.
	free []uuid.UUID
	// places are where the records of the parked topic belong.
	places []spot
	// oldest is when the oldest event published occurred.
	oldest time.Time
	// bad is the first event that was parked for a fault of its own.
	bad *Parked
	// decided is what was decided about each row.
	decided decisions

	// Records are handed out of slabs: one allocation for a page, not one a record. A slab never grows, for that would
	// move what was handed out.
	slab    []kgo.Record
	headers []kgo.RecordHeader
	bytes   []byte
}

const (
	byteSlab       = 256 << 10
	headersAnEvent = 8
)

func newBatch(events int) *batch {
	return &batch{
		records: make([]*kgo.Record, 0, events+1),
		slab:    make([]kgo.Record, 0, events),
		headers: make([]kgo.RecordHeader, 0, events*headersAnEvent),
	}
}

// record hands out an empty record. It is not in the batch before add.
func (b *batch) record() *kgo.Record {
	if len(b.slab) == cap(b.slab) {
		b.slab = make([]kgo.Record, 0, 64)
	}
	b.slab = b.slab[:len(b.slab)+1]
	return &b.slab[len(b.slab)-1]
}

func (b *batch) add(r *kgo.Record) { b.records = append(b.records, r) }

// room returns an empty slice of the byte slab that n bytes can be appended to without moving it.
func (b *batch) room(n int) []byte {
	if cap(b.bytes)-len(b.bytes) < n {
		b.bytes = make([]byte, 0, max(byteSlab, n))
	}
	return b.bytes[len(b.bytes):]
}

// keep takes what was appended to the slice that room gave. Bytes that outgrew the room are their own slab.
func (b *batch) keep(p []byte) []byte {
	if len(p) <= cap(b.bytes)-len(b.bytes) {
		b.bytes = b.bytes[:len(b.bytes)+len(p)]
	}
	return p[:len(p):len(p)]
}

// text copies a string into the byte slab.
func (b *batch) text(s string) []byte { return b.keep(append(b.room(len(s)), s...)) }
