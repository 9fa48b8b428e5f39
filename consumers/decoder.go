package consumers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
)

// Registry is what decoding needs of a schema registry; *registry.Client is one. Errors are told apart by
// registry.ErrNotFound, registry.ErrUnauthorized and registry.ErrInvalid; any other means that it is away.
type Registry interface {
	// Schema returns the text of the schema with an id.
	Schema(ctx context.Context, id int) (text string, err error)
}

// DecoderConfig says how records are decoded.
type DecoderConfig struct {
	// Registry resolves the ids in the records. Required.
	Registry Registry
	// Catalogue holds the schemas of the reader. A writer's schema whose name it knows is resolved to the reader's layout.
	// Default: events have the layout that they were written in.
	Catalogue *schemas.Catalogue
	// MaxValue is the size in bytes of the largest record value; a larger one is poison. Default 16 MiB.
	MaxValue int
	// UnknownGrace is how long a schema id that the registry does not know may still be on its way (a replica that lags) before its
	// record is poison. Made-up ids cannot hold a partition up for long: there is one such wait a minute, whatever ids come.
	// Default 5 s; negative means none.
	UnknownGrace time.Duration
	// Reads says which fields are wanted of events of a type; see FieldReader. Default: all.
	Reads func(eventType string) (names []string, all bool)
}

// Bounds of what a decoder remembers.
const (
	graceEvery      = time.Minute
	maxCodecs       = 1000             // schemas
	unknownFor      = 10 * time.Second // how long the registry is not asked again for an id that it does not have
	defaultMaxValue = 16 << 20
)

// Names of the headers that make a record an event.
const (
	headerID   = "ce_id"
	headerType = "ce_type"
	headerTime = "ce_time"
	headerSeq  = "millrace-seq"
)

// Decoder turns records into events. It is safe for concurrent use.
type Decoder struct {
	cfg DecoderConfig

	// codecs is replaced, never changed: what is read with each record takes no lock. mu is held to replace it.
	codecs atomic.Pointer[map[int]codecEntry]

	mu sync.Mutex // guards the following
	// grace is when the present or last wait for an unknown id ends or ended.
	grace time.Time
}

// codecEntry is what is known of a schema id: how to decode, or why that cannot be.
type codecEntry struct {
	name    string
	fields  *avro.Selection
	err     error
	expires time.Time // zero: never
}

// NewDecoder returns a decoder.
func NewDecoder(cfg DecoderConfig) (*Decoder, error) {
	if cfg.Registry == nil {
		return nil, errors.New("decoder: Registry is missing")
	}
	if cfg.MaxValue == 0 {
		cfg.MaxValue = defaultMaxValue
	}
	if cfg.UnknownGrace == 0 {
		cfg.UnknownGrace = 5 * time.Second
	}
	d := &Decoder{cfg: cfg}
	d.codecs.Store(&map[int]codecEntry{})
	return d, nil
}

// Decode decodes a record. What is wrong with the record itself is in Event.Err. An error means that nothing is known yet: the
// registry is away (transient) or refuses us (systemic).
func (d *Decoder) Decode(ctx context.Context, r *kgo.Record) (ev Event, err error) {
	var own slab
	if err := d.decode(ctx, r, &ev, &own, 1); err != nil {
		return Event{}, err
	}
	return ev, nil
}

// slab hands out room for values, so that it need not be asked for event by event.
type slab struct{ free []any }

// slabValues is the room that a slab takes at once, in values.
const slabValues = 4096

// room returns an empty slice for n values. ahead is how many more may be asked for soon.
func (s *slab) room(n, ahead int) []any {
	if len(s.free) < n {
		s.free = make([]any, max(n, min(n*ahead, slabValues)))
	}
	room := s.free[:0:n]
	s.free = s.free[n:]
	return room
}

// decode decodes a record into an event. The values stand in the slab; ahead is the number of records to come, this one included.
func (d *Decoder) decode(ctx context.Context, r *kgo.Record, ev *Event, s *slab, ahead int) error {
	*ev = Event{
		TopicPartition: TopicPartition{Topic: r.Topic, Partition: r.Partition},
		Offset:         r.Offset, Seq: r.Offset + 1, Value: r.Value, headers: r.Headers,
	}
	h := named(r.Headers)
	ev.identify(r.Key, h.id)
	poison, err := d.content(ctx, ev, h, r.Timestamp, s, ahead)
	if err != nil {
		return err
	}
	if ev.Type == "" {
		ev.Type = string(h.typ)
	}
	ev.Err = poison
	return nil
}

// identify sets key and id. They stay together wherever the event's state is kept, and share their memory.
func (e *Event) identify(key, id []byte) {
	if len(id) == 0 {
		e.Key = string(key)
		return
	}
	var room [128]byte
	both := string(append(append(room[:0], key...), id...))
	e.Key, e.ID = both[:len(key)], both[len(key):]
}

// content reads the headers and the value. The first error is the record's fault, the second is not.
func (d *Decoder) content(ctx context.Context, ev *Event, h eventHeaders, stamp time.Time, s *slab, ahead int) (poison, err error) {
	if err := ev.read(h, stamp); err != nil {
		return err, nil
	}
	switch {
	case !ev.HasKey():
		return fmt.Errorf("the key cannot name an entity: %d bytes", len(ev.Key)), nil
	case ev.Value == nil:
		return errors.New("the record has no value"), nil
	case len(ev.Value) > d.cfg.MaxValue:
		return fmt.Errorf("the value has %d bytes, more than %d", len(ev.Value), d.cfg.MaxValue), nil
	}
	if ev.SchemaID, ev.Payload, poison = avro.SplitFrame(ev.Value); poison != nil {
		return poison, nil
	}
	entry, err := d.entry(ctx, ev.SchemaID)
	if err != nil {
		return nil, err
	}
	ev.Type = entry.name
	if entry.err != nil {
		return entry.err, nil
	}
	values, poison := entry.fields.Append(s.room(len(entry.fields.Names()), ahead), ev.Payload)
	if poison == nil {
		ev.selected, ev.values = entry.fields, values
	}
	return poison, nil
}

// eventHeaders are the headers that make a record an event; nil for one that is not there.
type eventHeaders struct{ id, typ, time, seq []byte }

// named finds them. Of a doubled name the last one counts.
func named(headers []kgo.RecordHeader) (h eventHeaders) {
	for i := range headers {
		value := headers[i].Value
		if value == nil {
			value = []byte{}
		}
		switch headers[i].Key {
		case headerID:
			h.id = value
		case headerType:
			h.typ = value
		case headerTime:
			h.time = value
		case headerSeq:
			h.seq = value
		}
	}
	return h
}

// read reads version and time.
func (e *Event) read(h eventHeaders, stamp time.Time) error {
	e.Time = sane(stamp)
	if h.seq != nil {
		seq, err := strconv.ParseInt(string(h.seq), 10, 64)
		if err != nil || seq < 1 {
			return fmt.Errorf("header %s is %q, not a version", headerSeq, cut(string(h.seq), 40))
		}
		e.Seq = seq
	}
	if h.time != nil {
		t, err := time.Parse(time.RFC3339Nano, string(h.time))
		if err != nil {
			return fmt.Errorf("header %s is %q, not a time of RFC 3339", headerTime, cut(string(h.time), 40))
		}
		e.Time = sane(t)
	}
	return nil
}

// sane brings a time into the years 1 to 9999, to the microsecond. A record's timestamp is any number that its producer wrote, and
// no store takes all of them: one such record would hold up its partition for ever.
func sane(t time.Time) time.Time {
	t = t.UTC()
	switch y := t.Year(); {
	case y < 1:
		return time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	case y > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t.Truncate(time.Microsecond)
}

// entry returns how a schema id is decoded, asking the registry at most once for one that it has.
func (d *Decoder) entry(ctx context.Context, id int) (codecEntry, error) {
	e, ok := (*d.codecs.Load())[id]
	if ok && (e.expires.IsZero() || time.Now().Before(e.expires)) {
		return e, nil
	}
	e, err := d.resolve(ctx, id)
	if err != nil {
		return codecEntry{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	codecs := maps.Clone(*d.codecs.Load())
	if len(codecs) >= maxCodecs {
		for other := range codecs { // any: a topic has a handful, more is somebody's doing
			delete(codecs, other)
			break
		}
	}
	codecs[id] = e
	d.codecs.Store(&codecs)
	return e, nil
}

// mayAppear says whether an unknown id is waited for now.
func (d *Decoder) mayAppear(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cfg.UnknownGrace > 0 && now.Sub(d.grace) > graceEvery {
		d.grace = now.Add(d.cfg.UnknownGrace)
	}
	return now.Before(d.grace)
}

// resolve asks the registry and plans the decoding.
func (d *Decoder) resolve(ctx context.Context, id int) (codecEntry, error) {
	text, err := d.cfg.Registry.Schema(ctx, id)
	switch {
	case errors.Is(err, registry.ErrNotFound) && d.mayAppear(time.Now()):
		return codecEntry{}, fmt.Errorf("schema id %d may not have reached this registry yet: %w", id, err)
	case errors.Is(err, registry.ErrNotFound):
		return codecEntry{err: fmt.Errorf("schema id %d: %w", id, err), expires: time.Now().Add(unknownFor)}, nil
	case errors.Is(err, registry.ErrInvalid):
		return codecEntry{err: fmt.Errorf("schema id %d: %w", id, err)}, nil
	case errors.Is(err, registry.ErrUnauthorized):
		return codecEntry{}, AsSystemic(fmt.Errorf("ask for schema id %d: %w", id, err))
	case err != nil:
		return codecEntry{}, fmt.Errorf("ask for schema id %d: %w", id, err)
	}
	writer, err := avro.New(text)
	if err != nil {
		return codecEntry{err: fmt.Errorf("schema id %d: %w", id, err)}, nil
	}
	return d.forReader(id, writer), nil
}

// forReader resolves a writer's codec to the catalogue's schema of the same name, and selects what is read of it.
func (d *Decoder) forReader(id int, writer *avro.Codec) codecEntry {
	e := codecEntry{name: writer.Schema().Name}
	codec, err := d.reader(writer)
	if err != nil {
		e.err = fmt.Errorf("schema id %d cannot be read as the catalogue's %s: %w", id, e.name, err)
		return e
	}
	e.fields = codec.SelectAll()
	if d.cfg.Reads != nil {
		if names, all := d.cfg.Reads(e.name); !all {
			e.fields = codec.Select(names...)
		}
	}
	return e
}

func (d *Decoder) reader(writer *avro.Codec) (*avro.Codec, error) {
	if d.cfg.Catalogue == nil {
		return writer, nil
	}
	s, ok := d.cfg.Catalogue.Lookup(writer.Schema().Name)
	if !ok || s.Fingerprint == writer.Schema().Fingerprint {
		return writer, nil
	}
	reader, err := avro.New(s.Text)
	if err != nil {
		return nil, err
	}
	return avro.Resolve(writer, reader)
}
