package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// eventColumns is how many columns a row of a page has; the order is that of eventColumnsSQL.
const eventColumns = 11

// maxNames bounds the topics and types that a decoder remembers, in case somebody makes them up per event.
const maxNames = 4096

// decoder reads rows in Postgres' binary format into pages. Topics and types repeat, so it keeps one string of each.
type decoder struct {
	names map[string]string
}

// page reads at most limit events of rows, which come by id, into a page. A page of maxBytes or more ends there, and cancel is
// called to spare the rest.
func (d *decoder) page(rows pgx.Rows, limit, maxBytes int, cancel func()) (Page, error) {
	b := newPageBuilder(d)
	cut := false
	for rows.Next() {
		if cut || len(b.arena.events) == limit {
			continue // the rest is drained, not kept
		}
		if err := b.add(rows.RawValues()); err != nil {
			rows.Close()
			b.arena.recycle()
			return Page{}, err
		}
		if cut = b.bytes >= maxBytes; cut {
			cancel()
		}
	}
	if err := rows.Err(); err != nil && !(cut && canceled(err)) {
		b.arena.recycle()
		return Page{}, err
	}
	return b.page(), nil
}

// canceled says whether a statement ended because that was asked for.
func canceled(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "57014"
}

// name returns b as a string, the same one each time.
func (d *decoder) name(b []byte) string {
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	if d.names == nil || len(d.names) >= maxNames {
		d.names = make(map[string]string)
	}
	s := string(b)
	d.names[s] = s
	return s
}

// pageBuilder collects a page: byte slices go to the arena, keys into one string for the whole page.
type pageBuilder struct {
	decoder *decoder
	arena   *arena
	keys    []byte
	ends    []int // where each event's key ends in keys
	bytes   int
}

func newPageBuilder(d *decoder) *pageBuilder {
	a := arenas.Get().(*arena)
	return &pageBuilder{decoder: d, arena: a, keys: a.keys[:0], ends: a.ends[:0]}
}

// add copies a row. What the columns can hold is fixed by the table; anything else is a table that is not ours.
func (b *pageBuilder) add(raw [][]byte) error {
	if len(raw) != eventColumns {
		return fmt.Errorf("a row of %d columns, want %d", len(raw), eventColumns)
	}
	for i, width := range []int{0: 8, 1: 8, 2: 16, 6: 16, 10: 8} {
		if width > 0 && len(raw[i]) != width {
			return fmt.Errorf("column %d of an event has %d bytes, want %d", i+1, len(raw[i]), width)
		}
	}
	e := Event{
		Xid:         binary.BigEndian.Uint64(raw[0]),
		ID:          int64(binary.BigEndian.Uint64(raw[1])),
		EventID:     [16]byte(raw[2]),
		Topic:       b.decoder.name(raw[3]),
		Type:        b.decoder.name(raw[5]),
		Fingerprint: [16]byte(raw[6]),
		OccurredAt:  timestamp(int64(binary.BigEndian.Uint64(raw[10]))),
	}
	var err error
	if raw[7] != nil {
		e.Payload = b.arena.copy(raw[7])
	}
	if e.Body, err = b.json(raw[8]); err != nil {
		return fmt.Errorf("body of event %d: %w", e.ID, err)
	}
	if e.Headers, err = b.json(raw[9]); err != nil {
		return fmt.Errorf("headers of event %d: %w", e.ID, err)
	}
	b.keys = append(b.keys, raw[4]...)
	b.ends = append(b.ends, len(b.keys))
	b.arena.events = append(b.arena.events, e)
	b.bytes += 256 + len(raw[4]) + len(raw[7]) + len(raw[8]) + len(raw[9])
	return nil
}

// json copies a jsonb value in binary format: a version and the text.
func (b *pageBuilder) json(raw []byte) ([]byte, error) {
	if raw == nil {
		return nil, nil
	}
	if len(raw) == 0 || raw[0] != 1 {
		return nil, fmt.Errorf("jsonb in an unknown binary format")
	}
	return b.arena.copy(raw[1:]), nil
}

func (b *pageBuilder) page() Page {
	keys, start := string(b.keys), 0
	for i, end := range b.ends {
		b.arena.events[i].Key = keys[start:end]
		start = end
	}
	b.arena.keys, b.arena.ends = b.keys, b.ends
	return Page{Events: b.arena.events, bytes: b.bytes, arena: b.arena}
}

// timestamp turns microseconds since 2000 into a time. The infinities, which a writer in plain SQL could insert,
// become the first and last second that RFC 3339 can write.
func timestamp(micros int64) time.Time {
	switch micros {
	case math.MaxInt64:
		return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	case math.MinInt64:
		return time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	const epoch = 946684800 // 2000-01-01 in Unix seconds
	seconds, rest := micros/1e6, micros%1e6
	return time.Unix(epoch+seconds, rest*1000).UTC()
}
