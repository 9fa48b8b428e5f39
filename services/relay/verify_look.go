package relay

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

// look is an event as its row would have it published, or as its record has it.
type look struct {
	id        uuid.UUID
	topic     string
	key       []byte
	partition int32
	// kind is the event's type; kinded says that it is known.
	kind   string
	kinded bool
	// class names the schema, value is the event without its frame; unreadable says that the row cannot be encoded.
	class      schemas.Fingerprint
	value      []byte
	unreadable string
	headers    []pair
	// dated is when it occurred, in ms; undated says that this is not known.
	dated   int64
	undated bool
}

// lookAt is what a row would be published as. Its bytes are good until the next one.
func (v *verification) lookAt(ctx context.Context, e *store.Event, partition int32, l *look) error {
	*l = look{
		id: e.EventID, topic: e.Topic, key: append(l.key[:0], e.Key...), partition: partition,
		kind: e.Type, kinded: true, class: v.classes.ofRow(e.Fingerprint), value: e.Payload, dated: sane(e.OccurredAt).UnixMilli(),
	}
	var wrong *fault
	if l.headers, wrong = parseHeaders(e.Headers); wrong != nil {
		l.unreadable = string(wrong.reason) + ": " + wrong.detail
	}
	if e.Body == nil {
		return nil
	}
	c, err := v.codec(ctx, e.Fingerprint)
	if err != nil {
		return err
	}
	if c.wrong == "" {
		if l.value, err = c.codec.AppendEncodeJSON(nil, e.Body); err != nil {
			l.unreadable = "its body cannot be encoded: " + err.Error()
		}
	} else {
		l.unreadable = c.wrong
	}
	return nil
}

// codecOf encodes JSON by a schema, or says why it cannot.
type codecOf struct {
	codec *avro.Codec
	wrong string
}

func (v *verification) codec(ctx context.Context, fp schemas.Fingerprint) (*codecOf, error) {
	if c := v.codecs[fp]; c != nil {
		return c, nil
	}
	c := &codecOf{}
	text, err := store.ReadSchema(ctx, v.conn, v.cfg.Schema, fp)
	if err != nil && !errors.Is(err, store.ErrNoSchema) {
		return nil, err
	}
	if err == nil {
		c.codec, err = avro.New(text)
	}
	if err != nil {
		c.wrong = err.Error()
	}
	v.codecs[fp] = c
	return c, nil
}

// found is a record of a topic.
type found struct {
	look
	seq      int64
	offset   int64
	replayed bool
	known    bool // it names an event
}

// lookAtRecord reads what a record says.
func (v *verification) lookAtRecord(ctx context.Context, r *kgo.Record, f *found) {
	headers := f.headers[:0]
	*f = found{offset: r.Offset, look: look{topic: r.Topic, key: r.Key, partition: r.Partition, value: r.Value, dated: r.Timestamp.UnixMilli(), undated: r.Attrs.TimestampType() == 1}}
	for _, h := range r.Headers {
		switch h.Key {
		case headerID:
			id, err := uuid.ParseBytes(h.Value)
			f.id, f.known = id, err == nil
		case headerType:
			f.kind, f.kinded = string(h.Value), true
		case headerTime:
			if t, err := time.Parse(time.RFC3339Nano, string(h.Value)); err == nil {
				f.dated, f.undated = t.UnixMilli(), false
			}
		case HeaderReplayed:
			f.replayed = true
		case headerSource, headerSeq:
		default:
			headers = append(headers, pair{h.Key, string(h.Value)})
		}
	}
	f.headers, f.seq = headers, seqOf(r)
	if id, payload, err := avro.SplitFrame(r.Value); err == nil {
		f.class, f.value = v.classes.ofRecord(ctx, id), payload
	}
}

// hashes of this process.
var seedA, seedB = maphash.MakeSeed(), maphash.MakeSeed()

// sum is a hash of all that a row and its record have in common but the type, and one of that.
func (l *look) sum(buf []byte) (a, b, kind uint64, _ []byte) {
	field := func(p []byte) { buf = append(binary.AppendUvarint(buf, uint64(len(p))), p...) }
	buf = append(buf[:0], l.id[:]...)
	buf = binary.BigEndian.AppendUint32(buf, uint32(l.partition))
	buf = append(buf, l.class[:]...)
	field([]byte(l.topic))
	field(l.key)
	field(l.value)
	for _, h := range l.headers {
		field([]byte(h.name))
		field([]byte(h.value))
	}
	if l.unreadable != "" {
		field([]byte(l.unreadable))
	}
	a, b = maphash.Bytes(seedA, buf), maphash.Bytes(seedB, buf)
	buf = append(append(buf[:0], l.id[:]...), l.kind...)
	return a, b, maphash.Bytes(seedA, buf), buf
}

// hashOf places an event.
func hashOf(id uuid.UUID) uint64 { return maphash.Bytes(seedA, id[:]) }

// schemaClasses tell which schema ids and fingerprints mean the same schema. A registry may give one id for several.
type schemaClasses struct {
	root    map[schemas.Fingerprint]schemas.Fingerprint
	ids     map[int]schemas.Fingerprint
	unknown map[int]bool
	ask     func(ctx context.Context, id int) (string, error) // nil: the registry cannot be asked
}

// readClasses reads what the cursor topic says of ids.
func (v *verification) readClasses(ctx context.Context) (*schemaClasses, error) {
	c := &schemaClasses{root: map[schemas.Fingerprint]schemas.Fingerprint{}, ids: map[int]schemas.Fingerprint{}, unknown: map[int]bool{}}
	if r, ok := v.cfg.Registry.(interface {
		Schema(ctx context.Context, id int) (string, error)
	}); ok {
		c.ask = r.Schema
	}
	logs, err := openLogs(ctx, v.client, committedEnds, cursorTopic(v.cfg.Outbox))
	if err != nil {
		return nil, err
	}
	log := logs[cursorTopic(v.cfg.Outbox)][idPartition]
	return c, log.scan(ctx, log.start, func(r *kgo.Record) bool {
		c.load(r.Value)
		return true
	})
}

func (c *schemaClasses) load(value []byte) {
	var r idRecord
	if json.Unmarshal(value, &r) != nil || r.V != 1 || r.ID <= 0 {
		return
	}
	raw, err := hex.DecodeString(r.Fingerprint)
	if err != nil {
		return
	}
	if fp, err := schemas.ParseFingerprint(raw); err == nil {
		c.join(r.ID, fp)
	}
}

// join says that an id means a schema.
func (c *schemaClasses) join(id int, fp schemas.Fingerprint) {
	root := c.ofRow(fp)
	other, known := c.ids[id]
	if !known {
		c.ids[id] = root
		return
	}
	if other = c.ofRow(other); other != root {
		c.root[root] = other
	}
}

func (c *schemaClasses) ofRow(fp schemas.Fingerprint) schemas.Fingerprint {
	for {
		up, ok := c.root[fp]
		if !ok {
			return fp
		}
		fp = up
	}
}

// ofRecord asks the registry about an id that the cursor topic does not tell of any more. An id that nobody knows is a class by itself.
func (c *schemaClasses) ofRecord(ctx context.Context, id int) schemas.Fingerprint {
	if fp, ok := c.ids[id]; ok {
		return c.ofRow(fp)
	}
	if !c.unknown[id] && c.ask != nil {
		if text, err := c.ask(ctx, id); err == nil {
			if s, err := schemas.Parse(text); err == nil {
				c.join(id, s.Fingerprint)
				return c.ofRow(s.Fingerprint)
			}
		}
	}
	c.unknown[id] = true
	return schemas.Fingerprint(fmt.Appendf(nil, "unknown %08x", uint32(id)))
}
