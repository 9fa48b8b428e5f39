package relay

import (
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// batch is what one Kafka transaction carries besides the cursor.
type batch struct {
	records []*kgo.Record
	// wire takes the events' records by way of encoder, each as soon as it is made; nil leaves them in records.
	wire    *wire
	encoder *encoder
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
	// traced are those of the published whose writer traces them.
	traced []traced
	// bad is the first event that was parked for a fault of its own.
	bad *Parked
	// decided is what was decided about each row.
	decided decisions
	// target is the last event's topic.
	target target

	// Records are handed out of slabs: one allocation for a page, not one a record. A slab never grows, for that would
	// move what was handed out.
	slab    []kgo.Record
	headers []kgo.RecordHeader
	bytes   [][]byte // slabs; those before used are taken
	used    int
}

const (
	byteSlab       = 256 << 10
	headersAnEvent = 6
	// keepSlabs bounds the bytes that a batch keeps for the next page.
	keepSlabs = 64
)

func newBatch(events int) *batch {
	return &batch{
		records: make([]*kgo.Record, 0, events+1),
		slab:    make([]kgo.Record, 0, events),
		headers: make([]kgo.RecordHeader, 0, events*headersAnEvent),
	}
}

// onWire makes a batch that takes its events to a wire. What they are made of is used again for each.
func onWire(e *encoder) *batch {
	b := newBatch(1)
	b.wire, b.encoder = &wire{}, e
	return b
}

// plain says that a batch has nothing to do with parked events.
func (b *batch) plain() bool {
	return b.parked == 0 && b.released == 0 && b.discarded == 0 && b.bad == nil && len(b.places) == 0 && len(b.free) == 0
}

// carry takes over what is to be told of an earlier batch of the same transaction.
func (b *batch) carry(before *batch) {
	b.published += before.published
	if before.published > 0 && before.oldest.Before(b.oldest) {
		b.oldest = before.oldest
	}
	b.traced = append(before.traced, b.traced[:min(len(b.traced), maxSpans-len(before.traced))]...)
}

// holds says whether a batch can be used again for that many events.
func (b *batch) holds(events int) bool {
	return b.wire != nil || cap(b.slab) >= events && cap(b.headers) >= events*headersAnEvent
}

// reset empties a batch whose records nobody uses any more.
func (b *batch) reset() *batch {
	clear(b.records[:cap(b.records)])
	slabs := b.bytes[:0]
	for _, slab := range b.bytes {
		if cap(slab) == byteSlab && len(slabs) < keepSlabs {
			slabs = append(slabs, slab[:0])
		}
	}
	clear(b.bytes[len(slabs):])
	if b.wire != nil {
		b.wire.reset()
	}
	*b = batch{records: b.records[:0], wire: b.wire, encoder: b.encoder, slab: b.slab[:0], headers: b.headers[:0], bytes: slabs}
	return b
}

// event adds an event's record, made of what the batch handed out.
func (b *batch) event(r *kgo.Record) {
	if b.wire == nil {
		b.add(r)
		return
	}
	b.encoder.add(b.wire, r, false)
	b.slab, b.headers = b.slab[:0], b.headers[:0]
	for i := range b.used {
		b.bytes[i] = b.bytes[i][:0]
	}
	b.used = 0
}

// record hands out an empty record. It is not in the batch before add.
func (b *batch) record() *kgo.Record {
	if len(b.slab) == cap(b.slab) {
		b.slab = make([]kgo.Record, 0, 64)
	}
	b.slab = append(b.slab, kgo.Record{})
	return &b.slab[len(b.slab)-1]
}

func (b *batch) add(r *kgo.Record) { b.records = append(b.records, r) }

// room returns an empty slice of the byte slab that n bytes can be appended to without moving it.
func (b *batch) room(n int) []byte {
	for ; ; b.used++ {
		if b.used > 0 {
			if slab := b.bytes[b.used-1]; cap(slab)-len(slab) >= n {
				return slab[len(slab):]
			}
		}
		if b.used == len(b.bytes) {
			b.bytes = append(b.bytes, make([]byte, 0, max(byteSlab, n)))
		}
	}
}

// keep takes what was appended to the slice that room gave. Bytes that outgrew the room are their own slab.
func (b *batch) keep(p []byte) []byte {
	if slab := &b.bytes[b.used-1]; len(p) <= cap(*slab)-len(*slab) {
		*slab = (*slab)[:len(*slab)+len(p)]
	}
	return p[:len(p):len(p)]
}

// text copies a string into the byte slab.
func (b *batch) text(s string) []byte { return b.keep(append(b.room(len(s)), s...)) }
