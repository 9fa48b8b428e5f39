package relay

import (
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

const (
	// maxDug is about how many events are looked at one by one, maxDugRecords how many records of one event.
	maxDug        = 100_000
	maxDugRecords = 8
	// maxDugBytes bounds the values that are held so that they can be decoded.
	maxDugBytes = 32 << 20
)

// dig holds the events of those buckets where rows and records do not add up to the same.
type dig struct {
	v      *verification
	wanted []bool
	left   int // buckets that are not looked into
	events map[uuid.UUID]*dug
	bytes  int
}

// dug is one event.
type dug struct {
	row     *dugRow
	records []dugRecord
	more    int64 // records that are not held
}

type dugRow struct {
	said
	id          int64
	xid         uint64
	occurred    time.Time
	fingerprint schemas.Fingerprint
	json        bool
}

type dugRecord struct {
	said
	where   string
	seq     int64
	dated   time.Time
	undated bool
	behind  bool
	beyond  bool // it may be of a row that has left
}

// said is what a row or a record says, as hashes where it may be long.
type said struct {
	topic, key     string
	partition      int32
	kind           string
	kinded         bool
	class          schemas.Fingerprint
	value, headers uint64
	bytes          []byte // nil if there was no room
	unreadable     string
}

func newDig(v *verification, dirty []int) *dig {
	d := &dig{v: v, wanted: make([]bool, sumBuckets), events: map[uuid.UUID]*dug{}}
	each := v.total/sumBuckets + 1
	some := int(min(max(maxDug/each, 1), int64(len(dirty))))
	for _, i := range dirty[:some] {
		d.wanted[i] = true
	}
	d.left = len(dirty) - some
	return d
}

func (d *dig) wants(id uuid.UUID) bool { return d.wanted[hashOf(id)%sumBuckets] }

func (d *dig) event(id uuid.UUID) *dug {
	e := d.events[id]
	if e == nil {
		e = &dug{}
		d.events[id] = e
	}
	return e
}

func (d *dig) said(l *look, keep bool) said {
	s := said{topic: l.topic, key: lineKey(string(l.key)), partition: l.partition, kind: shorten(l.kind), kinded: l.kinded, class: l.class,
		value: maphash.Bytes(seedA, l.value), unreadable: l.unreadable}
	for _, h := range l.headers {
		s.headers = maphash.String(seedA, fmt.Sprintf("%x %q %q", s.headers, h.name, h.value))
	}
	if keep && d.bytes+len(l.value) <= maxDugBytes {
		d.bytes += len(l.value)
		s.bytes = slices.Clone(l.value)
	}
	return s
}

func (d *dig) row(e *store.Event, l *look) {
	d.event(e.EventID).row = &dugRow{said: d.said(l, e.Body != nil), id: e.ID, xid: e.Xid, occurred: e.OccurredAt, fingerprint: e.Fingerprint, json: e.Body != nil}
}

func (d *dig) record(f *found, behind bool) {
	e := d.event(f.id)
	if len(e.records) == maxDugRecords {
		e.more++
		return
	}
	r := dugRecord{said: d.said(&f.look, e.row != nil && e.row.json), where: f.where(), seq: f.seq, dated: time.UnixMilli(f.dated).UTC(), undated: f.undated, behind: behind}
	slack := leafSlack.Milliseconds()
	r.beyond = f.dated < d.v.entered || d.v.ring.Floor > 0 && f.dated < d.v.edge+slack
	if horizon, forgets := d.v.horizons[partitionAt{f.topic, f.partition}]; forgets && f.undated && f.dated-slack < horizon {
		r.beyond = true
	}
	e.records = append(e.records, r)
}

// judge says of each event how it stands.
func (d *dig) judge() {
	ids := make([]uuid.UUID, 0, len(d.events))
	for id := range d.events {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		d.one(id, d.events[id])
	}
	if d.left > 0 {
		// Of each at least one event differs.
		d.v.out.Differences += int64(d.left)
		d.v.note("%d more of the %d sums differ, of one event each at least, and were not looked into: repair what is named and verify again", d.left, sumBuckets)
	}
}

func (d *dig) one(id uuid.UUID, e *dug) {
	v := d.v
	if e.row == nil {
		d.unknown(id, e)
		return
	}
	at := e.difference(id)
	if len(e.records) == 0 {
		at.Kind = Missing
		v.differs(at)
		return
	}
	first := &e.records[0]
	if len(e.records) > 1 && !v.repeats() {
		at.Kind, at.Detail = Doubled, fmt.Sprintf("%d times", int64(len(e.records))+e.more)
		v.differs(at)
	}
	if wrong := d.changed(e.row, first); wrong != "" {
		at.Kind, at.Detail = Changed, wrong
		v.differs(at)
	}
	if first.behind {
		at.Kind, at.Detail = Reordered, fmt.Sprintf("version %d stands behind a higher one of its partition", first.seq)
		v.differs(at)
	}
}

// difference is what there is to say of an event that is known.
func (e *dug) difference(id uuid.UUID) DifferentEvent {
	d := DifferentEvent{EventID: id}
	if r := e.row; r != nil {
		d.Topic, d.Key, d.Row, d.Xid, d.Since = r.topic, r.key, r.id, r.xid, r.occurred
	}
	for i := range e.records {
		d.Offsets = append(d.Offsets, e.records[i].where)
	}
	if len(e.records) > 0 {
		r := &e.records[0]
		if d.Seq = r.seq; e.row == nil {
			d.Topic, d.Key, d.Since = r.topic, r.key, r.dated
		}
	}
	return d
}

// unknown judges an event that has a record, and no row that was compared.
func (d *dig) unknown(id uuid.UUID, e *dug) {
	v, at := d.v, e.difference(id)
	gone := v.held.discarded[id]
	switch {
	case (gone != nil || v.held.parked[id]) && v.repeats():
		return // a leader that was overtaken parked it late: see the package comment
	case gone != nil:
		at.Kind, at.Detail = Withheld, gone.String()
	case v.held.parked[id]:
		at.Kind, at.Detail = Withheld, "it is parked"
	case e.records[0].beyond:
		v.out.BeyondOutbox++
		return
	default:
		at.Kind, at.Detail = Unknown, "no row of the outbox has its id"
	}
	v.differs(at)
}

// changed says what a record says otherwise than its row; empty if nothing.
func (d *dig) changed(row *dugRow, rec *dugRecord) string {
	var wrong []string
	is := func(different bool, what string) {
		if different {
			wrong = append(wrong, what)
		}
	}
	is(row.topic != rec.topic, "topic "+rec.topic)
	is(row.key != rec.key, "key "+rec.key)
	is(row.key == rec.key && row.topic == rec.topic && row.partition != rec.partition, fmt.Sprintf("partition %d instead of %d", rec.partition, row.partition))
	is(rec.kinded && row.kind != rec.kind, "type "+rec.kind)
	is(row.class != rec.class, "another schema")
	switch {
	case row.unreadable != "": // it was published, and cannot be any more: a schema was mended since
		d.v.note("row %d cannot be encoded any more, its record was not compared: %s", row.id, row.unreadable)
	case row.headers != rec.headers:
		is(true, "other headers")
		fallthrough
	default:
		is(row.value != rec.value && !d.sameJSON(row, rec), "another value")
	}
	if len(wrong) == 0 {
		return ""
	}
	return "the record has " + strings.Join(wrong, ", ")
}

// sameJSON says whether two encodings of one JSON body say the same: another version of the relay may have chosen other bytes.
func (d *dig) sameJSON(row *dugRow, rec *dugRecord) bool {
	c := d.v.codecs[row.fingerprint]
	if !row.json || row.bytes == nil || rec.bytes == nil || c == nil || c.codec == nil {
		return false
	}
	want, err1 := c.codec.Decode(row.bytes)
	have, err2 := c.codec.Decode(rec.bytes)
	return err1 == nil && err2 == nil && reflect.DeepEqual(want, have)
}
