package relay

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

// contents are what parked events hold.
type contents interface {
	// expect says which records are asked for next, so that they can be read in the order in which they lie.
	expect(ctx context.Context, next []held) error
	// record returns an event's record; nil if the parked topic does not hold it, or not any more.
	record(ctx context.Context, h held) (*Parked, error)
	// row returns the event's row in the outbox table; ok is false if it is gone.
	row(ctx context.Context, p *Parked) (e store.Event, ok bool, err error)
}

// parkedContents reads records from Kafka a stretch at a time, and rows one by one. ahead.go reads those that are expected.
type parkedContents struct {
	log    partitionLog
	schema string
	// connect opens a connection of its own for rows: the loop's may be at work on a page.
	connect func(ctx context.Context) (*pgx.Conn, error)

	// patience is its own: the loop's is in use while a page is read.
	patience *patience

	stretch []*kgo.Record
	kept    map[int64][]byte // by offset: records that are expected
	conn    *pgx.Conn
}

var _ contents = (*parkedContents)(nil)

func newParkedContents(log *partitionLog, schema string, connect func(ctx context.Context) (*pgx.Conn, error)) *parkedContents {
	c := &parkedContents{log: *log, schema: schema, connect: connect}
	// An event is remembered only when its commit is known, but the broker writes the markers later.
	c.log.dirty = true
	return c
}

func (c *parkedContents) record(ctx context.Context, h held) (*Parked, error) {
	value, err := c.value(ctx, h)
	if err != nil || value == nil {
		return nil, err
	}
	p, err := decodeParked(value)
	if err != nil {
		return nil, fmt.Errorf("parked event %s at offset %d: %w", h.id, h.offset, err)
	}
	return p, nil
}

// value returns an event's record; nil if the parked topic does not hold it.
func (c *parkedContents) value(ctx context.Context, h held) ([]byte, error) {
	if value, ok := c.kept[h.offset]; ok {
		return value, nil
	}
	if r := c.at(h); r != nil {
		return r.Value, nil
	}
	got, _, err := c.log.fetch(ctx, h.offset)
	if err != nil {
		return nil, fmt.Errorf("read parked event %s at offset %d: %w", h.id, h.offset, err)
	}
	c.stretch = got.Records
	if r := c.at(h); r != nil {
		return r.Value, nil
	}
	return nil, nil
}

// at looks for an event's record in the stretch that was read last.
func (c *parkedContents) at(h held) *kgo.Record {
	i, ok := slices.BinarySearchFunc(c.stretch, h.offset, func(r *kgo.Record, offset int64) int { return cmp.Compare(r.Offset, offset) })
	if !ok || string(c.stretch[i].Key) != h.id.String() || len(c.stretch[i].Value) == 0 {
		return nil
	}
	return c.stretch[i]
}

func (c *parkedContents) row(ctx context.Context, p *Parked) (e store.Event, ok bool, err error) {
	if c.conn == nil {
		if c.conn, err = c.connect(ctx); err != nil {
			return store.Event{}, false, err
		}
	}
	err = c.patience.within(ctx, func(ctx context.Context) (err error) {
		e, ok, err = store.ReadEvent(ctx, c.conn, c.schema, p.Row, p.EventID)
		return err
	})
	return e, ok, err
}

func (c *parkedContents) close() {
	if c.conn != nil {
		closeConn(c.conn)
	}
}

// needsRow says that the record does not hold all of the event: the rest is in the outbox table only.
func (p *Parked) needsRow() bool { return p.Omitted || cut(p.Topic) || cut(p.Key) || cut(p.Type) }

// event is the parked event as its row had it. wrong says that this cannot be told any more.
func (p *Parked) event(ctx context.Context, from contents) (e store.Event, wrong *fault, err error) {
	if p.needsRow() {
		e, ok, err := from.row(ctx, p)
		if err == nil && !ok {
			return e, faultf(ReasonGone, "its contents were in the outbox table only, and row %d is no longer there: it can be discarded", p.Row), nil
		}
		return e, nil, err
	}
	e = store.Event{
		ID: p.Row, EventID: p.EventID, Topic: p.Topic, Key: p.Key, Type: p.Type, OccurredAt: p.OccurredAt, Payload: p.Payload,
	}
	raw, err := hex.DecodeString(p.Fingerprint)
	if err == nil {
		e.Fingerprint, err = schemas.ParseFingerprint(raw)
	}
	if err != nil {
		return e, faultf(ReasonSchema, "%.100q is no fingerprint of a schema", p.Fingerprint), nil
	}
	if p.Body != "" {
		e.Body = []byte(p.Body)
	} else if p.Payload == nil {
		e.Payload = []byte{} // a record without fields
	}
	if p.Headers != "" {
		e.Headers = []byte(p.Headers)
	}
	return e, nil, nil
}

var shortened = regexp.MustCompile(`\.\.\. \(\d+ bytes, SHA-256 [0-9a-f]{64}\)$`)

// cut says whether a text of a parked event may not be the row's own: it was shortened, or was not UTF-8.
func cut(text string) bool {
	return strings.ContainsRune(text, '\ufffd') || shortened.MatchString(text)
}
