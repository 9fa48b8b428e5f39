package relay

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas/avro"
)

const (
	// maxKeyBytes is the longest key published: the longest that names an entity to the consumers, which skip an event with
	// a longer one.
	maxKeyBytes = 8 << 10
	// recordOverhead is what a record weighs besides key, value and headers, at most.
	recordOverhead = 64
	// maxAhead is how far a record's timestamp may lie in the future; brokers refuse more than an hour by default.
	maxAhead = 30 * time.Minute
)

// framer turns rows into records. It belongs to the loop.
type framer struct {
	cfg    Config
	source []byte // header ce_source
	ids    *schemaIDs
	pins   *pins // nil holds nothing
	lines  *lines
	// partitions makes sure that a topic exists and returns how many partitions it has.
	partitions func(ctx context.Context, topic string) (int32, error)
	// highest returns the highest millrace-seq that a topic holds.
	highest func(ctx context.Context, topic string) (int64, error)
	// limit returns the size of the largest record that a topic takes.
	limit func(topic string) int
	// span returns how far from now a topic takes timestamps; nil knows of no bounds but the brokers' own.
	span func(topic string) span
	now  func() time.Time
	// repeat is set when the cursor was found in a page that had been announced.
	repeat *repeat
	// halt is the error to end with once the page that was framed last is published, as far as it was framed.
	halt error
	// encoder encodes the events of a page; nil where the publisher takes records.
	encoder *encoder
	// spare is a batch to be used again; nil if there is none.
	spare *batch
	// times and kind are texts of the event before.
	times    timeText
	kind     string
	kindText []byte
}

// batch returns an empty batch, one that was recycled if it will do.
func (f *framer) batch(events int) *batch {
	b := f.spare
	f.spare = nil
	switch {
	case b != nil && b.holds(events):
		return b.reset()
	case f.encoder != nil:
		return onWire(f.encoder)
	}
	return newBatch(events)
}

// recycle takes a batch back whose records are all acknowledged.
func (f *framer) recycle(b *batch) {
	if f.encoder == nil || b.wire != nil {
		f.spare = b
	}
}

// frame makes the records of a page, in row order, and advances next past it: seq, row, event, partitions. An error means
// that nothing can be said about the page now; events that are at fault themselves are parked.
func (f *framer) frame(ctx context.Context, events []store.Event, next *cursor) (*batch, error) {
	b := f.batch(len(events))
	for i := range events {
		e := &events[i]
		seq, parked := next.Seq, b.parked
		if err := f.decide(ctx, b, e, i, next); err != nil {
			if i == 0 || !errors.Is(err, ErrPoison) {
				return nil, err
			}
			f.halt = err // what comes before it is published
			break
		}
		b.decided.add(b.parked > parked, next.Seq, seq)
		next.Row, next.EventID, next.Xid, next.Highest = e.ID, e.EventID, e.Xid, max(next.Highest, e.ID)
	}
	next.Intent = next.Intent.after(len(events))
	if b.wire != nil {
		b.encoder.sealAll(b.wire) // while the page before is on its way
	}
	return b, f.addFresh(b)
}

// addFresh adds the schema ids that were resolved for the batch.
func (f *framer) addFresh(b *batch) error {
	fresh, err := f.ids.takeFresh(cursorTopic(f.cfg.Outbox))
	if err != nil {
		return err
	}
	b.records = append(b.records, fresh...)
	return nil
}

// decide publishes or parks row i of the page: as announced, if it was.
func (f *framer) decide(ctx context.Context, b *batch, e *store.Event, i int, next *cursor) error {
	if said := next.Intent; said != nil {
		return f.again(ctx, b, e, said.Done+i, next)
	}
	return f.event(ctx, b, e, next)
}

func (f *framer) event(ctx context.Context, b *batch, e *store.Event, next *cursor) error {
	wrong, err := f.publishable(ctx, b, e, next)
	if err != nil || wrong == nil {
		return err
	}
	return f.poison(b, e, wrong)
}

// publishable adds the event's record to the batch, or says why it cannot.
func (f *framer) publishable(ctx context.Context, b *batch, e *store.Event, next *cursor) (*fault, error) {
	if f.lines.blocked(lineKey(e.Topic), lineKey(e.Key)) {
		return &fault{reason: ReasonBehind}, nil
	}
	return f.fit(ctx, b, e, next)
}

// fit is publishable for an event that waits for no other.
func (f *framer) fit(ctx context.Context, b *batch, e *store.Event, next *cursor) (*fault, error) {
	if wrong := f.checkNames(b, e); wrong != nil {
		return wrong, nil
	}
	writer, wrong := parseHeaders(e.Headers)
	if wrong != nil {
		return wrong, nil
	}
	schema, wrong, err := f.schema(ctx, b, e)
	if wrong != nil || err != nil {
		return wrong, err
	}
	value, wrong := frameValue(b, e, schema)
	if wrong != nil {
		return wrong, nil
	}
	t, wrong, err := f.aim(ctx, b, e.Topic, next)
	if wrong != nil || err != nil {
		return wrong, err
	}
	t.fingerprint, t.schema = e.Fingerprint, schema
	// Promise 7: a record that its topic refuses would be sent again and again.
	if size := recordSize(f.source, e, value, writer); size > t.limit {
		return faultf(ReasonSize, "the record would have %d bytes, the topic takes at most %d", size, t.limit), nil
	}
	next.Seq++
	f.add(b, e, value, writer, next.Seq)
	return nil, nil
}

func (f *framer) checkNames(b *batch, e *store.Event) *fault {
	if e.Topic != b.target.topic {
		if reason := topicNameFault(e.Topic); reason != "" {
			return faultf(ReasonTopic, "%s", reason)
		}
		if _, listed := f.cfg.Topics[e.Topic]; f.cfg.OnlyListed && !listed {
			return faultf(ReasonTopic, "the topic is not configured")
		}
	}
	switch {
	case e.Key == "":
		return faultf(ReasonKey, "the key is empty")
	case len(e.Key) > maxKeyBytes:
		return faultf(ReasonKey, "the key has %d bytes, at most %d are published", len(e.Key), maxKeyBytes)
	case !utf8.ValidString(e.Key):
		return faultf(ReasonKey, "the key is not UTF-8")
	}
	return nil
}

// frameValue makes the record's value: frame, then Avro binary.
func frameValue(b *batch, e *store.Event, s *resolved) ([]byte, *fault) {
	if e.Body == nil {
		v := avro.AppendFrame(b.room(avro.FrameSize+len(e.Payload)), s.id)
		return b.keep(append(v, e.Payload...)), nil
	}
	v, err := s.codec.AppendEncodeJSON(avro.AppendFrame(b.room(avro.FrameSize+len(e.Body)), s.id), e.Body)
	if err != nil {
		return nil, bodyFault(err)
	}
	return b.keep(v), nil
}

func bodyFault(err error) *fault {
	var field *avro.FieldError
	if errors.As(err, &field) {
		return &fault{reason: ReasonBody, field: field.Field, detail: field.Reason}
	}
	return faultf(ReasonBody, "%v", err)
}

// add adds an event's record to the batch, whose target is its topic.
func (f *framer) add(b *batch, e *store.Event, value []byte, writer []pair, seq int64) {
	r := b.record()
	r.Topic, r.Value, r.Key = e.Topic, value, b.text(e.Key)
	r.Partition = partitionOf(r.Key, b.target.partitions)
	var exact bool
	r.Timestamp, exact = b.target.stamp(e.OccurredAt)
	r.Headers = f.appendHeaders(b, e, seq, writer, !exact)
	if f.cfg.Tracer != nil {
		b.trace(e, writer, r.Partition, len(value))
	}
	b.event(r)
	if b.published++; b.published == 1 || e.OccurredAt.Before(b.oldest) {
		b.oldest = e.OccurredAt
	}
}

// recordSize is an upper bound of what the record weighs in a batch.
func recordSize(source []byte, e *store.Event, value []byte, writer []pair) int {
	const fixed = 36 + 35 + 20 + 7*16 // ce_id, ce_time, millrace-seq and the names
	n := recordOverhead + fixed + len(source) + len(e.Type) + len(e.Key) + len(value)
	for _, p := range writer {
		n += len(p.name) + len(p.value) + 8
	}
	return n
}

// park adds a record to the parked topic, at the end of the key's line, or by itself.
func (f *framer) park(b *batch, e *store.Event, wrong *fault, alone bool) error {
	at := line{topic: strings.Clone(lineKey(e.Topic)), key: strings.Clone(lineKey(e.Key))}
	if alone {
		at.alone = e.EventID
	}
	q := f.lines.add(at, e.EventID, wrong.reason)
	p := park(e, wrong, q.last, f.now())
	p.Topic, p.Key, p.Alone = at.topic, at.key, alone
	if err := f.hold(b, q, p); err != nil {
		return err
	}
	if b.parked++; b.bad == nil && wrong.reason != ReasonBehind {
		b.bad = p
	}
	return nil
}

// hold adds the record of an event that has its place in a line, a new one or one that says something else of it.
func (f *framer) hold(b *batch, q *queue, p *Parked) error {
	value, err := p.encode(f.limit(parkedTopic(f.cfg.Outbox)))
	if err != nil {
		return err
	}
	f.pins.hold(p)
	r := &kgo.Record{Topic: parkedTopic(f.cfg.Outbox), Key: []byte(p.EventID.String()), Value: value}
	b.add(r)
	b.places = append(b.places, spot{q, p.Position, r})
	return nil
}

// lineKey is the key, or topic, as JSON and the parked topic can hold it, so that a line read back is the line that was
// written.
func lineKey(key string) string {
	if !utf8.ValidString(key) {
		key = strings.ToValidUTF8(key, "\ufffd")
	}
	return shorten(key)
}
