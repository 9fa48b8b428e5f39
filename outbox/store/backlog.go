package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// BacklogCap is the most events Backlog counts.
const BacklogCap = 100_000

// Backlog counts, from the table, the committed events that a relay with the cursor {last, upper, position} has still
// to publish, and gives the time of the oldest (zero if there is none). A nil last stands before the first event; upper is nil between windows.
// It stops counting at BacklogCap: that many means at least that many.
func Backlog(ctx context.Context, conn *pgx.Conn, schema string, last, upper *Snapshot, position int64) (events int64, oldest time.Time, err error) {
	return 0, time.Time{}, errNotYet
}
