package history

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Row is one committed outbox row.
type Row struct {
	Xid uint64
	ID  int64
	Key string
	N   int64
}

// Truth is what the tables hold after the end.
type Truth struct {
	Rows     map[[16]byte]Row // by event id
	Counters map[string]int64 // by key, those whose writers take turns: how many events the key has
}

// ReadTruth reads the tables and checks them against each other: the counters of the application and the rows of the
// outbox were written in the same transactions, so a difference is a fault of the workload, not of a reader.
func ReadTruth(ctx context.Context, conn *pgx.Conn) (Truth, error) {
	truth := Truth{Rows: map[[16]byte]Row{}, Counters: map[string]int64{}}
	rows, err := conn.Query(ctx, `select event_id, xid, id, key, payload from outbox.event`)
	if err != nil {
		return truth, fmt.Errorf("read the outbox: %w", err)
	}
	var eventID [16]byte
	var row Row
	var payload []byte
	perKey := map[string]int64{}
	if _, err = pgx.ForEachRow(rows, []any{&eventID, &row.Xid, &row.ID, &row.Key, &payload}, func() error {
		if row.N, err = counterOf(payload); err != nil {
			return err
		}
		truth.Rows[eventID] = row
		perKey[row.Key]++
		return nil
	}); err != nil {
		return truth, fmt.Errorf("read the outbox: %w", err)
	}
	rows, err = conn.Query(ctx, `select key, n from counter where n > 0`)
	if err != nil {
		return truth, fmt.Errorf("read the counters: %w", err)
	}
	var key string
	var n int64
	if _, err = pgx.ForEachRow(rows, []any{&key, &n}, func() error {
		truth.Counters[key] = n
		if perKey[key] != n {
			return fmt.Errorf("key %s counts %d, the outbox holds %d of its events", key, n, perKey[key])
		}
		return nil
	}); err != nil {
		return truth, fmt.Errorf("read the counters: %w", err)
	}
	return truth, nil
}

// counterOf reads the counter out of an event's payload.
func counterOf(payload []byte) (int64, error) {
	if len(payload) < 8 {
		return 0, fmt.Errorf("payload of %d bytes is not from this workload", len(payload))
	}
	return int64(binary.BigEndian.Uint64(payload)), nil
}
