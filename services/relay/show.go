package relay

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas/avro"
)

// Shown is a parked event with what it says, and where it stands.
type Shown struct {
	*Parked
	// Content is the payload, decoded by the schema it was written with; nil if Body holds the event, or if it cannot be read, and
	// then ContentProblem says why.
	Content        map[string]any
	ContentProblem string
	// Ahead and Behind count the events of its line that are before it and behind it; Head is the first of the line.
	Ahead, Behind int64
	Head          uuid.UUID
}

// ErrNotParked is what ShowParked returns for an event that is not parked.
var ErrNotParked = errors.New("no such event is parked")

// ShowParked finds a parked event on Kafka, and in the outbox what is not kept there: omitted contents, and the schema. cfg names
// the outbox, its database schema and the brokers; conn reaches its database.
func ShowParked(ctx context.Context, cfg Config, conn *pgx.Conn, id uuid.UUID) (*Shown, error) {
	s, err := findParked(ctx, cfg, id)
	if err != nil {
		return nil, err
	}
	e, wrong, err := s.event(ctx, rows{conn, cfg.Schema})
	switch {
	case err != nil:
		return nil, err
	case wrong != nil:
		s.ContentProblem = wrong.detail
		return s, nil
	}
	s.Payload, s.Body, s.Headers = e.Payload, string(e.Body), string(e.Headers)
	if e.Body != nil {
		return s, nil
	}
	text, err := store.ReadSchema(ctx, conn, cfg.Schema, e.Fingerprint)
	if err == nil {
		s.Content, err = decodeAs(text, e.Payload)
	} else if !errors.Is(err, store.ErrNoSchema) {
		return nil, err
	}
	if err != nil {
		s.ContentProblem = err.Error()
	}
	return s, nil
}

func decodeAs(text string, payload []byte) (map[string]any, error) {
	codec, err := avro.New(text)
	if err != nil {
		return nil, err
	}
	return codec.Decode(payload)
}

// findParked reads the parked topic for one event, and counts those of its line.
func findParked(ctx context.Context, cfg Config, id uuid.UUID) (*Shown, error) {
	client, err := newClient(cfg.Kafka)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	logs, err := parkedLogs(ctx, client, cfg.Outbox)
	if err != nil {
		return nil, err
	}
	var found *Parked
	all := newLineLoader()
	err = scanParked(ctx, logs, func(r *kgo.Record, p *Parked) {
		if string(r.Key) == id.String() {
			found = p
		}
		all.take(r, p)
	})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, ErrNotParked
	}
	q := all.where[id].queue
	ahead := int64(0)
	for i := range q.events {
		if h := &q.events[i]; h.position < found.Position && !h.gone {
			ahead++
		}
	}
	return &Shown{Parked: found, Ahead: ahead, Behind: int64(q.size()) - ahead - 1, Head: q.head().id}, nil
}

// rows reads omitted contents over a connection of a person's.
type rows struct {
	conn   *pgx.Conn
	schema string
}

func (r rows) expect(context.Context, []held) error { return nil }

func (r rows) record(context.Context, held) (*Parked, error) { return nil, nil }

func (r rows) row(ctx context.Context, p *Parked) (store.Event, bool, error) {
	return store.ReadEvent(ctx, r.conn, r.schema, p.Row, p.EventID)
}
