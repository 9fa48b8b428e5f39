package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// findSlack is how far the clock that made an event's id may be from the database's, and how long before its row it was made.
const findSlack = time.Hour

// FindRows finds the retained rows of an event or, where eventID is nil, the newest ones of a key, at most limit of them; newest first. No index is on either. An id
// that tells when it was made (UUID version 7, as the library draws them) is looked for among the rows of that time first; else, and if it is not there, the whole table is read.
// The caller owns the events; their payloads, bodies and headers are left out.
func FindRows(ctx context.Context, conn *pgx.Conn, schema string, eventID *[16]byte, key string, limit int) ([]Event, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return nil, err
	}
	f := finder{conn: conn, table: quoted + ".event"}
	if eventID == nil {
		return f.rows(ctx, `e.key = $1::text`, limit, key)
	}
	if made, tells := madeAt(*eventID); tells {
		from, err := f.firstSince(ctx, made.Add(-findSlack))
		if err != nil {
			return nil, err
		}
		until, err := f.firstSince(ctx, made.Add(findSlack))
		if err != nil {
			return nil, err
		}
		found, err := f.rows(ctx, `e.event_id = $1::uuid and e.id >= $3::bigint and e.id < $4::bigint`, limit, uuidText(*eventID), from, until)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	return f.rows(ctx, `e.event_id = $1::uuid`, limit, uuidText(*eventID))
}

// madeAt is when an id of version 7 was made.
func madeAt(id [16]byte) (time.Time, bool) {
	ms := int64(binary.BigEndian.Uint64(id[:8]) >> 16)
	return time.UnixMilli(ms), id[6]>>4 == 7
}

type finder struct {
	conn  *pgx.Conn
	table string
}

// firstSince is about the id of the first row that occurred at a time or later, one above the last row's if none did: ids grow with time, all but those of writers
// that date their events themselves.
func (f finder) firstSince(ctx context.Context, at time.Time) (int64, error) {
	var low, high int64
	if err := f.conn.QueryRow(ctx, `select coalesce(min(id), 0), coalesce(max(id), 0) + 1 from `+f.table).Scan(&low, &high); err != nil {
		return 0, fmt.Errorf("look for the retained rows: %w", err)
	}
	for low < high {
		middle := low + (high-low)/2
		var id int64
		var occurred time.Time
		// There is one: the last row's id is not below the middle.
		err := f.conn.QueryRow(ctx, `select e.id, case when isfinite(e.occurred_at) then e.occurred_at else now() end from `+f.table+` e where e.id >= $1::bigint order by e.id limit 1`, middle).Scan(&id, &occurred)
		if errors.Is(err, pgx.ErrNoRows) { // removed meanwhile
			high = middle
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("look for rows of %s: %w", at.UTC().Format(time.RFC3339), err)
		}
		if occurred.Before(at) {
			low = id + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

func (f finder) rows(ctx context.Context, where string, limit int, what ...any) ([]Event, error) {
	args := slices.Insert(what, 1, any(limit))
	rows, err := f.conn.Query(ctx, `select e.xid::text::bigint, e.id, e.event_id, e.topic, e.key, e.type, e.occurred_at from `+f.table+` e where `+where+
		` order by e.id desc limit $2::int`, args...)
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
