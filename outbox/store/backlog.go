package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// BacklogCap is the most events that Backlog counts.
const BacklogCap = 100_000

// backlogPlans keep the count on the indexes, for its transaction only: the connection may be anybody's.
const backlogPlans = `set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off;
	set local enable_incremental_sort = off; set local jit = off; set local max_parallel_workers_per_gather = 0`

// backlogQuery counts what no window holds yet, and what the open window still holds after the position. The second
// is looked for by id; the rows examined are bounded as well as those counted.
//
//	$1, $2 xmax and xip of the newest snapshot in the cursor   $3 cap
//	$4 whether a window is open   $5 position   $6 last.xmax   $7 last.xip   $8 upper
const backlogQuery = `
select count(*), min(occurred_at) from (
	(select e.occurred_at from {{schema}}.event e
		where e.xid >= $1::xid8 and e.xid < pg_snapshot_xmax(pg_current_snapshot()) order by e.xid, e.id limit $3::int)
	union all
	(select l.occurred_at from unnest($2::xid8[]) running(xid)
		cross join lateral (
			select e.occurred_at from {{schema}}.event e
			where e.xid >= running.xid and e.xid <= running.xid order by e.xid, e.id limit $3::int
		) l limit $3::int)
	union all
	(select w.occurred_at from (
			select e.xid, e.occurred_at from {{schema}}.event e
			where $4::boolean and e.id > $5::bigint order by e.id limit 2 * $3::int
		) w
		where (w.xid >= $6::xid8 or w.xid = any ($7::xid8[]))
			and pg_visible_in_snapshot(w.xid, (select $8::text::pg_snapshot)))
) behind`

// Backlog counts, from the table, the committed events that a relay with the cursor {last, upper, position} has still
// to publish, and gives the time of the oldest of them (zero if there is none): for the display of status. A nil last
// stands before the first event; upper is nil between windows. It counts up to BacklogCap, which therefore
// means "at least", and looks at a bounded number of rows.
func Backlog(ctx context.Context, conn *pgx.Conn, schema string, last, upper *Snapshot, position int64) (events int64, oldest time.Time, err error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return 0, time.Time{}, err
	}
	var from Snapshot
	if last != nil {
		from = *last
	}
	newest, window := from, "1:1:"
	if upper != nil {
		newest, window = *upper, upper.String()
	}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, backlogPlans, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		var first *time.Time
		err := tx.QueryRow(ctx, strings.ReplaceAll(backlogQuery, "{{schema}}", quoted), pgx.QueryExecModeCacheStatement,
			newest.Xmax, xids(newest.Xip), BacklogCap, upper != nil, position, from.Xmax, xids(from.Xip), window).Scan(&events, &first)
		if first != nil {
			oldest = first.UTC()
		}
		return err
	})
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("count the events behind the cursor: %w", err)
	}
	return min(events, BacklogCap), oldest, nil
}
