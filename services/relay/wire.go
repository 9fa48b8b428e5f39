package relay

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// encoder turns records into Kafka's record batches of version 2 (the layout is that of Kafka's protocol guide, "Record Batch").
// A record is encoded where it is made and its parts are forgotten: a page costs no memory a record, its batches are compressed
// while the transaction before is on its way, and a client that keeps records and a promise of each is not asked. An encoder fills
// one wire at a time.
type encoder struct {
	compressor kgo.Compressor // nil compresses nothing
	limit      func(topic string) int

	topics  map[string][]*lane // by partition
	last    string             // the topic of the last record
	lanes   []*lane            // its lanes
	scratch bytes.Buffer
}

// lane is a partition that is written to.
type lane struct {
	limit int
	open  *recordBatch // nil if the next record begins a batch
	bytes []byte       // the records of open
}

// wire is what a transaction carries, encoded.
type wire struct {
	batches []*recordBatch // in the order in which they were begun
	spare   [][]byte
}

// recordBatch is a run of records of one partition.
type recordBatch struct {
	topic     string
	partition int32
	// bytes are room for the header and the records, once the batch is sealed.
	bytes         []byte
	codec         kgo.CompressionCodecType
	count         int32
	first, newest int64 // timestamps in milliseconds
	// sequence is the batch's place among those of its partition and producer epoch.
	sequence int32
	// key and event are the first record's, for the error if the batch is refused.
	key, event string
	watched    []watched
}

// watched is a record that gets its offset when it is acknowledged.
type watched struct {
	record *kgo.Record
	delta  int32
}

// Places in the header of a batch.
const (
	batchHeader       = 61
	batchLengthAt     = 8
	batchEpochAt      = 12
	batchMagicAt      = 16
	batchCRCAt        = 17
	batchAttributesAt = 21
	batchLastDeltaAt  = 23
	batchFirstTimeAt  = 27
	batchMaxTimeAt    = 35
	batchProducerAt   = 43
	batchProdEpochAt  = 51
	batchSequenceAt   = 53
	batchCountAt      = 57

	batchMagic   = 2
	attributeTxn = 1 << 4

	keepWire      = 16 << 20 // bytes of buffers kept for the next page
	maxWireTopics = 1000     // whose lanes are kept
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newEncoder(compressor kgo.Compressor, limit func(string) int) *encoder {
	return &encoder{compressor: compressor, limit: limit, topics: map[string][]*lane{}}
}

// add encodes a record. If it is watched it gets its offset when it is acknowledged; otherwise nothing of it is kept.
func (e *encoder) add(w *wire, r *kgo.Record, watch bool) {
	if r.Timestamp.IsZero() {
		r.Timestamp = time.Now()
	}
	stamp := r.Timestamp.UnixMilli()
	l := e.lane(r.Topic, r.Partition)
	size := 0
	if b := l.open; b != nil {
		size = recordLength(r, stamp-b.first, b.count)
		if batchHeader+len(l.bytes)+binary.MaxVarintLen32+size > l.limit {
			e.seal(w, l)
		}
	}
	if l.open == nil {
		l.open = w.begin(r, stamp)
		l.limit = e.limit(r.Topic)
		size = recordLength(r, 0, 0)
	}
	b := l.open
	if watch {
		b.watched = append(b.watched, watched{r, b.count})
	}
	l.grow(binary.MaxVarintLen32 + size)
	l.bytes = appendRecord(l.bytes, r, size, stamp-b.first, b.count)
	b.count++
	b.newest = max(b.newest, stamp)
}

// grow makes room for n more bytes. A batch that has come to a quarter of its limit is taken to become a full one: doubling further
// would leave as much behind again as the page takes.
func (l *lane) grow(n int) {
	need := len(l.bytes) + n
	if need <= cap(l.bytes) {
		return
	}
	room := max(need, 2*cap(l.bytes), 4<<10)
	if room > l.limit/4 {
		room = max(need, l.limit)
	}
	l.bytes = append(make([]byte, 0, room), l.bytes...)
}

func (e *encoder) lane(topic string, partition int32) *lane {
	if topic != e.last || e.lanes == nil {
		e.last, e.lanes = topic, e.topics[topic]
	}
	if int(partition) >= len(e.lanes) {
		e.lanes = append(e.lanes, make([]*lane, int(partition)+1-len(e.lanes))...)
		e.topics[topic] = e.lanes
	}
	if e.lanes[partition] == nil {
		e.lanes[partition] = &lane{}
	}
	return e.lanes[partition]
}

// sealAll ends what is open. The encoder is ready for the next wire then.
func (e *encoder) sealAll(w *wire) {
	kept := 0
	for _, lanes := range e.topics {
		for _, l := range lanes {
			if l == nil {
				continue
			}
			if l.open != nil {
				e.seal(w, l)
			} else if kept > keepWire/2 {
				l.bytes = nil
			}
			kept += cap(l.bytes)
		}
	}
	if len(e.topics) > maxWireTopics {
		clear(e.topics)
		e.last, e.lanes = "", nil
	}
}

// seal ends a lane's batch: compressed, if that makes it smaller.
func (e *encoder) seal(w *wire, l *lane) {
	b, records := l.open, l.bytes
	if e.compressor != nil {
		e.scratch.Reset()
		if small, codec := e.compressor.Compress(&e.scratch, records); len(small) < len(records) {
			b.codec, records = codec, small
		}
	}
	b.bytes = append(w.buffer(batchHeader + len(records))[:batchHeader], records...)
	l.open, l.bytes = nil, l.bytes[:0]
}

// begin starts a batch with the record that comes first.
func (w *wire) begin(r *kgo.Record, stamp int64) *recordBatch {
	b := &recordBatch{
		topic: r.Topic, partition: r.Partition, first: stamp, newest: stamp, key: string(r.Key), event: headerOf(r, headerID),
	}
	w.batches = append(w.batches, b)
	return b
}

// buffer returns a buffer of n bytes or more, the smallest that was used before if one will do.
func (w *wire) buffer(n int) []byte {
	best := -1
	for i, spare := range w.spare {
		if cap(spare) >= n && (best < 0 || cap(spare) < cap(w.spare[best])) {
			best = i
		}
	}
	if best < 0 {
		return make([]byte, n+n/8)
	}
	found := w.spare[best]
	w.spare = slices.Delete(w.spare, best, best+1)
	return found[:cap(found)]
}

// reset forgets everything but the memory. Nobody may use the batches any more.
func (w *wire) reset() {
	spare, kept := make([][]byte, 0, len(w.batches)), 0
	for _, b := range w.batches { // those not used this time are dropped: they were too small
		if kept += cap(b.bytes); kept <= keepWire {
			spare = append(spare, b.bytes)
		}
	}
	clear(w.batches)
	w.batches, w.spare = w.batches[:0], spare
}

// finish writes the header.
func (b *recordBatch) finish(producer int64, epoch int16) {
	h, be := b.bytes, binary.BigEndian
	be.PutUint64(h, 0)
	be.PutUint32(h[batchLengthAt:], uint32(len(h)-batchEpochAt))
	be.PutUint32(h[batchEpochAt:], ^uint32(0)) // the leader's epoch is the broker's to say
	h[batchMagicAt] = batchMagic
	be.PutUint16(h[batchAttributesAt:], uint16(b.codec)|attributeTxn)
	be.PutUint32(h[batchLastDeltaAt:], uint32(b.count-1))
	be.PutUint64(h[batchFirstTimeAt:], uint64(b.first))
	be.PutUint64(h[batchMaxTimeAt:], uint64(b.newest))
	be.PutUint64(h[batchProducerAt:], uint64(producer))
	be.PutUint16(h[batchProdEpochAt:], uint16(epoch))
	be.PutUint32(h[batchSequenceAt:], uint32(b.sequence))
	be.PutUint32(h[batchCountAt:], uint32(b.count))
	be.PutUint32(h[batchCRCAt:], crc32.Checksum(h[batchAttributesAt:], castagnoli))
}

// placed tells the watched records their offsets.
func (b *recordBatch) placed(base int64) {
	for _, w := range b.watched {
		w.record.Offset = base + int64(w.delta)
	}
}

// varintLength is what a zigzag varint takes.
func varintLength(n int64) int {
	return max(1, (bits.Len64(uint64(n)<<1^uint64(n>>63))+6)/7)
}

func bytesLength(p []byte) int {
	if p == nil {
		return 1 // the length -1
	}
	return varintLength(int64(len(p))) + len(p)
}

// recordLength is the length that stands before a record.
func recordLength(r *kgo.Record, sinceFirst int64, delta int32) int {
	n := 1 + varintLength(sinceFirst) + varintLength(int64(delta)) + bytesLength(r.Key) + bytesLength(r.Value) + varintLength(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintLength(int64(len(h.Key))) + len(h.Key) + bytesLength(h.Value)
	}
	return n
}

func appendRecord(dst []byte, r *kgo.Record, length int, sinceFirst int64, delta int32) []byte {
	dst = binary.AppendVarint(dst, int64(length))
	dst = append(dst, 0) // attributes: none are in use
	dst = binary.AppendVarint(dst, sinceFirst)
	dst = binary.AppendVarint(dst, int64(delta))
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}

func appendBytes(dst, p []byte) []byte {
	if p == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(p))), p...)
}
