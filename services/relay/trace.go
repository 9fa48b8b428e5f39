package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// TracedRow is a row of the outbox, and what the relay has done with it.
type TracedRow struct {
	// Row is its id, Xid the transaction that wrote it.
	Row        int64     `json:"row"`
	Xid        uint64    `json:"xid"`
	EventID    uuid.UUID `json:"event_id"`
	Topic      string    `json:"topic"`
	Key        string    `json:"key"`
	Type       string    `json:"type"`
	OccurredAt time.Time `json:"occurred_at"`
	// State is published, waiting, parked, discarded, or unknown, where Kafka cannot be asked.
	State string `json:"state"`
	// Reason, Detail and ParkedAt are those of a parked event; of a discarded one Detail says by whom and why, ParkedAt when.
	Reason   Reason    `json:"reason,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	ParkedAt time.Time `json:"parked_at,omitzero"`
}

// The states of a traced row.
const (
	TracedPublished = "published"
	TracedWaiting   = "waiting"
	TracedParked    = "parked"
	TracedDiscarded = "discarded"
	TracedUnknown   = "unknown"
)

// TraceRows finds the retained rows of an event or, where id is the zero UUID, the newest of a key; newest first. cfg names the outbox, its database and the brokers. Where
// only Kafka does not answer, the rows are returned with the error.
func TraceRows(ctx context.Context, cfg Config, id uuid.UUID, key string, limit int) ([]TracedRow, error) {
	cfg = cfg.WithDefaults()
	conn, err := pgx.Connect(ctx, cfg.Postgres)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer closeConn(conn)
	var wanted *[16]byte
	if id != uuid.Nil {
		wanted = (*[16]byte)(&id)
	}
	found, err := store.FindRows(ctx, conn, cfg.Schema, wanted, key, limit)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	rows := make([]TracedRow, len(found))
	for i, e := range found {
		rows[i] = TracedRow{Row: e.ID, Xid: e.Xid, EventID: e.EventID, Topic: e.Topic, Key: e.Key, Type: e.Type, OccurredAt: e.OccurredAt, State: TracedUnknown}
	}
	return rows, traceStates(ctx, cfg, rows)
}

// traceStates says of rows what became of them. The cursor is read before the parked ones: what is parked after that is waiting still.
func traceStates(ctx context.Context, cfg Config, rows []TracedRow) error {
	client, err := newClient(cfg.Kafka)
	if err != nil {
		return err
	}
	defer client.Close()
	cur, err := committedCursor(ctx, client, cfg.Outbox)
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	logs, err := parkedLogs(ctx, client, cfg.Outbox)
	if err != nil {
		return err
	}
	wanted, parked, gone := map[string]bool{}, map[uuid.UUID]*Parked{}, map[uuid.UUID]*Discarded{}
	for i := range rows {
		wanted[rows[i].EventID.String()] = true
	}
	if err := scanParked(ctx, logs, func(r *kgo.Record, p *Parked) {
		if wanted[string(r.Key)] { // only these are held
			id := uuid.MustParse(string(r.Key))
			parked[id], gone[id] = p, decodeDiscarded(r)
		}
	}); err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		r.State = TracedWaiting
		if cur != nil && (cur.Last.Sees(r.Xid) || r.Row <= cur.Position && cur.Upper.Sees(r.Xid)) {
			r.State = TracedPublished
		}
		if p := parked[r.EventID]; p != nil {
			r.State, r.Reason, r.Detail, r.ParkedAt = TracedParked, p.Reason, p.Detail, p.ParkedAt
		}
		if d := gone[r.EventID]; d != nil {
			r.State, r.Reason, r.Detail, r.ParkedAt = TracedDiscarded, d.Reason, d.String(), d.At
		}
	}
	return nil
}
