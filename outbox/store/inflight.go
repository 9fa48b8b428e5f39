package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// InFlight is what is at work in the database cluster at one instant.
type InFlight struct {
	// Xids are the transactions that have an id and have not ended, prepared ones among them.
	Xids []uint64
	// Oldest is the age of the oldest of them that the role may see; 0 if it sees none. A role without pg_read_all_stats sees its
	// own transactions and prepared ones: Xids, remembered from one look to the next, tells of the others.
	Oldest time.Duration
}

const inFlightQuery = `
select pg_current_snapshot()::text, coalesce(extract(epoch from clock_timestamp() - least(
	(select min(a.xact_start) from pg_stat_activity a where a.backend_xid is not null),
	(select min(p.prepared) from pg_prepared_xacts p))), 0)::float8`

// LookInFlight asks what is at work. It reads no table.
func LookInFlight(ctx context.Context, conn *pgx.Conn) (InFlight, error) {
	var text string
	var age float64
	if err := conn.QueryRow(ctx, inFlightQuery).Scan(&text, &age); err != nil {
		return InFlight{}, fmt.Errorf("ask for the oldest transaction at work: %w", err)
	}
	s, err := ParseSnapshot(text)
	if err != nil {
		return InFlight{}, err
	}
	return InFlight{Xids: s.Xip, Oldest: time.Duration(max(age, 0) * float64(time.Second))}, nil
}
