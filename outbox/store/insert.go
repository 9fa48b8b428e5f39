package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/outbox/internal/dbtx"
	"github.com/millrace/millrace/schemas"
)

// Row is an event to be inserted. xid and id are the database's to give.
type Row struct {
	EventID     [16]byte
	Topic       string
	Key         string
	Type        string
	Fingerprint schemas.Fingerprint
	// Payload is Avro binary without a frame.
	Payload []byte
	// Headers is a JSON object of strings; empty for none.
	Headers string
	// OccurredAt is the database's clock if zero.
	OccurredAt time.Time
}

// Limits of one INSERT. What is beyond them goes into another one, in order.
const (
	maxInsertRows  = 5000
	maxInsertBytes = 16 << 20
	// maxValuesRows is the number of rows up to which a VALUES list is faster than arrays. Each number of rows is a
	// statement text of its own, and drivers cache plans by text: so it is kept small.
	maxValuesRows = 8
)

const insertColumns = "(event_id, topic, key, type, schema_fp, payload, headers, occurred_at)"

// Inserter writes rows into the event table. It is safe for concurrent use.
type Inserter struct {
	values [maxValuesRows + 1]string // by number of rows
	arrays string
}

// NewInserter prepares the texts for one database schema.
func NewInserter(schema string) (*Inserter, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return nil, err
	}
	into := "insert into " + quoted + ".event " + insertColumns
	in := &Inserter{
		// The rows come out of unnest in order, so ids are drawn in order.
		arrays: into + " select event_id, topic, key, type, schema_fp, payload, headers, coalesce(occurred_at, clock_timestamp())" +
			" from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::jsonb[], $8::timestamptz[])" +
			" as e " + insertColumns,
	}
	for n := 1; n <= maxValuesRows; n++ {
		in.values[n] = into + " values " + placeholders(n)
	}
	return in, nil
}

func placeholders(rows int) string {
	var b strings.Builder
	for i := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "($%d::uuid, $%d, $%d, $%d, $%d, $%d, $%d::jsonb, coalesce($%d::timestamptz, clock_timestamp()))",
			8*i+1, 8*i+2, 8*i+3, 8*i+4, 8*i+5, 8*i+6, 8*i+7, 8*i+8)
	}
	return b.String()
}

// Insert writes rows in their order. It is one INSERT, unless they are more than fit one statement.
func (in *Inserter) Insert(ctx context.Context, tx dbtx.Tx, rows []Row) error {
	for len(rows) > 0 {
		n := fitting(rows)
		query, args := in.statement(rows[:n])
		if _, err := tx.Exec(ctx, query, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// fitting returns how many of rows go into the next statement: at least one.
func fitting(rows []Row) int {
	size := 0
	for i := range rows {
		size += len(rows[i].Payload) + len(rows[i].Headers)
		if i > 0 && (size > maxInsertBytes || i == maxInsertRows) {
			return i
		}
	}
	return len(rows)
}

// statement returns the INSERT and its arguments. They are plain strings and bytes, which every driver and every
// protocol (prepared, unprepared, simple) passes on alike.
func (in *Inserter) statement(rows []Row) (string, []any) {
	if len(rows) <= maxValuesRows {
		args := make([]any, 0, 8*len(rows))
		for i := range rows {
			r := &rows[i]
			args = append(args, uuidText(r.EventID), r.Topic, r.Key, r.Type, r.Fingerprint[:], nonNil(r.Payload),
				orNull(r.Headers), orNullTime(r.OccurredAt))
		}
		return in.values[len(rows)], args
	}
	return in.arrays, []any{
		arrayOf(rows, func(a *array, r *Row) { a.text(uuidText(r.EventID)) }),
		arrayOf(rows, func(a *array, r *Row) { a.text(r.Topic) }),
		arrayOf(rows, func(a *array, r *Row) { a.text(r.Key) }),
		arrayOf(rows, func(a *array, r *Row) { a.text(r.Type) }),
		arrayOf(rows, func(a *array, r *Row) { a.bytes(r.Fingerprint[:]) }),
		arrayOf(rows, func(a *array, r *Row) { a.bytes(r.Payload) }),
		arrayOf(rows, func(a *array, r *Row) { a.textOrNull(r.Headers) }),
		arrayOf(rows, func(a *array, r *Row) { a.time(r.OccurredAt) }),
	}
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func orNullTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

func uuidText(id [16]byte) string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}
