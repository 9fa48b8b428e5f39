package consumers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
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

	mu     sync.Mutex // guards the following
	codecs map[int]codecEntry
	// grace is when the present or last wait for an unknown id ends or ended.
	grace time.Time
}

// codecEntry is what is known of a schema id: how to decode, or why that cannot be.
type codecEntry struct {
	name    string
	codec   *avro.Codec
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
	return &Decoder{cfg: cfg, codecs: map[int]codecEntry{}}, nil
}

// Decode decodes a record. What is wrong with the record itself is in Event.Err. An error means that nothing is known yet: the
// registry is away (transient) or refuses us (systemic).
func (d *Decoder) Decode(ctx context.Context, r *kgo.Record) (Event, error) {
	ev := Event{
		TopicPartition: TopicPartition{Topic: r.Topic, Partition: r.Partition},
		Offset:         r.Offset, Key: string(r.Key), Seq: r.Offset + 1,
		Time: sane(r.Timestamp), Headers: make(map[string]string, len(r.Headers)), Value: r.Value,
	}
	for _, h := range r.Headers {
		ev.Headers[h.Key] = string(h.Value)
	}
	ev.ID, ev.Type = ev.Headers[headerID], ev.Headers[headerType]
	poison, err := d.decode(ctx, &ev)
	if err != nil {
		return Event{}, err
	}
	if poison != nil {
		ev.Err, ev.Fields = poison, nil
	}
	return ev, nil
}

// decode fills the event in. The first error is the record's fault, the second is not.
func (d *Decoder) decode(ctx context.Context, ev *Event) (poison, err error) {
	if err := readHeaders(ev); err != nil {
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
	if entry.name != "" {
		ev.Type = entry.name
	}
	if entry.err != nil {
		return entry.err, nil
	}
	ev.Fields, poison = entry.codec.Decode(ev.Payload)
	return poison, nil
}

// readHeaders reads version and time.
func readHeaders(ev *Event) error {
	if s, ok := ev.Headers[headerSeq]; ok {
		seq, err := strconv.ParseInt(s, 10, 64)
		if err != nil || seq < 1 {
			return fmt.Errorf("header %s is %q, not a version", headerSeq, cut(s, 40))
		}
		ev.Seq = seq
	}
	if s, ok := ev.Headers[headerTime]; ok {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return fmt.Errorf("header %s is %q, not a time of RFC 3339", headerTime, cut(s, 40))
		}
		ev.Time = sane(t)
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
	d.mu.Lock()
	e, ok := d.codecs[id]
	d.mu.Unlock()
	if ok && (e.expires.IsZero() || time.Now().Before(e.expires)) {
		return e, nil
	}
	e, err := d.resolve(ctx, id)
	if err != nil {
		return codecEntry{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.codecs) >= maxCodecs {
		for other := range d.codecs { // any: a topic has a handful, more is somebody's doing
			delete(d.codecs, other)
			break
		}
	}
	d.codecs[id] = e
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

// forReader resolves a writer's codec to the catalogue's schema of the same name.
func (d *Decoder) forReader(id int, writer *avro.Codec) codecEntry {
	e := codecEntry{name: writer.Schema().Name, codec: writer}
	if d.cfg.Catalogue == nil {
		return e
	}
	s, ok := d.cfg.Catalogue.Lookup(e.name)
	if !ok || s.Fingerprint == writer.Schema().Fingerprint {
		return e
	}
	reader, err := avro.New(s.Text)
	if err == nil {
		e.codec, err = avro.Resolve(writer, reader)
	}
	if err != nil {
		return codecEntry{name: e.name, err: fmt.Errorf("schema id %d cannot be read as the catalogue's %s: %w", id, e.name, err)}
	}
	return e
}
