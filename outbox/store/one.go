package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
	"github.com/millrace/millrace/schemas"
)

// ReadEvent reads one event by its row's id, whoever published it; ok is false if the row is not there, or another event has the id.
// The caller owns the event.
func ReadEvent(ctx context.Context, conn *pgx.Conn, schema string, id int64, eventID [16]byte) (e Event, ok bool, err error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return Event{}, false, err
	}
	rows, err := conn.Query(ctx, `select `+eventColumnsSQL+` from `+quoted+`.event e where e.id = $1::bigint and e.event_id = $2::uuid`,
		pgx.QueryExecModeCacheDescribe, pgx.QueryResultFormats{pgx.BinaryFormatCode}, id, eventID)
	if err != nil {
		return Event{}, false, fmt.Errorf("read event %s, row %d: %w", uuidText(eventID), id, err)
	}
	page, err := new(decoder).page(rows, 1, DefaultPageBytes, func() {})
	if err != nil {
		return Event{}, false, fmt.Errorf("read event %s, row %d: %w", uuidText(eventID), id, err)
	}
	if len(page.Events) == 0 {
		return Event{}, false, nil
	}
	return page.Events[0], true, nil
}

// ReadSchema reads the text of the schema that an event was written with; ErrNoSchema if the outbox does not hold it.
func ReadSchema(ctx context.Context, conn *pgx.Conn, schema string, fp schemas.Fingerprint) (text string, err error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, `select definition from `+quoted+`.schema where fingerprint = $1`, fp[:]).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("schema %s: %w", fp, ErrNoSchema)
	}
	if err != nil {
		return "", fmt.Errorf("read schema %s: %w", fp, err)
	}
	return text, nil
}
