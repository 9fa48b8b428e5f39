package store

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// WrittenRow is an event as it stands in the table, with the definition of its schema. It is for tests of what an
// application writes; the relay reads through Reader.
type WrittenRow struct {
	ID         int64
	EventID    [16]byte
	Topic      string
	Key        string
	Type       string
	Payload    []byte // or else Body
	Body       string
	Headers    string // empty for none
	OccurredAt time.Time
	Definition string // empty if the schema is not stored
}

// Written returns every event that db sees, by id. If db is a transaction, these are also its own.
func Written(ctx context.Context, db dbtx.Querier, schema string) ([]WrittenRow, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return nil, err
	}
	var rows []WrittenRow
	err = db.Query(ctx, func(scan func(...any) error) error {
		var r WrittenRow
		var id []byte
		if err := scan(&r.ID, &id, &r.Topic, &r.Key, &r.Type, &r.Payload, &r.Body, &r.Headers, &r.OccurredAt, &r.Definition); err != nil {
			return err
		}
		copy(r.EventID[:], id)
		rows = append(rows, r)
		return nil
	}, `select e.id, uuid_send(e.event_id), e.topic, e.key, e.type, e.payload, coalesce(e.body::text, ''),
	           coalesce(e.headers::text, ''), e.occurred_at, coalesce(s.definition, '')
	      from `+quoted+`.event e left join `+quoted+`.schema s on s.fingerprint = e.schema_fp
	     order by e.id`)
	if err != nil {
		return nil, fmt.Errorf("read written events: %w", err)
	}
	return rows, nil
}
