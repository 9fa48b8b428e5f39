package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// FindRows finds the retained rows of an event or, where eventID is nil, the newest ones of a key, at most limit of them; newest first. No index helps: it reads the
// whole table. The caller owns the events; their payloads, bodies and headers are left out.
func FindRows(ctx context.Context, conn *pgx.Conn, schema string, eventID *[16]byte, key string, limit int) ([]Event, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return nil, err
	}
	where, what := `e.key = $1::text`, any(key)
	if eventID != nil {
		where, what = `e.event_id = $1::uuid`, uuidText(*eventID)
	}
	rows, err := conn.Query(ctx, `select e.xid::text::bigint, e.id, e.event_id, e.topic, e.key, e.type, e.occurred_at from `+quoted+`.event e where `+where+
		` order by e.id desc limit $2::int`, what, limit)
	if err != nil {
		return nil, fmt.Errorf("look for rows of the outbox: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Event, err error) {
		var xid int64
		err = row.Scan(&xid, &e.ID, &e.EventID, &e.Topic, &e.Key, &e.Type, &e.OccurredAt)
		e.Xid, e.OccurredAt = uint64(xid), e.OccurredAt.UTC()
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for rows of the outbox: %w", err)
	}
	return out, nil
}
