package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// History is what a cursor knows of the database's past beside its Source.
type History struct {
	// Source is the database as it was.
	Source Source
	// Last and Upper are the cursor's snapshots: whatever Last sees is published.
	Last, Upper Snapshot
	// Xid is the transaction of the row published last, which VerifyRow has found, or retention has taken; 0 if that is not known.
	Xid uint64
	// Highest is at least the highest id ever published; 0 if nothing was.
	Highest int64
}

// historyQuery looks for a row that was written after the highest published one by a transaction that had ended before. The range of
// xids is all but empty, unless the last row's transaction was a long one.
//
//	$1 xid of the last published row   $2 last.xmax   $3 highest published id   $4 last
const historyQuery = `
select e.id, e.xid from {{schema}}.event e
where e.xid > $1::xid8 and e.xid < $2::xid8 and e.id > $3::bigint and pg_visible_in_snapshot(e.xid, (select $4::text::pg_snapshot))
order by e.xid, e.id limit 1`

// CheckHistory finds out a copy of the volume from before the cursor that has come past its positions in the WAL and in the transaction
// ids since, so that Check sees nothing. Transaction ids that the cursor has seen the end of were given again: events of theirs would be
// taken for published, and lost. ErrRestored (in a *SourceError): a transaction is at work that had ended, or one that had ended has
// written a row since. When neither is there, no event is hidden, and none can come: whoever begins now gets an id that the cursor has
// not seen. Check comes first: a snapshot tells of those at work only up to the last id that ended. The rest is VerifyRow's: a copy that
// lacks the last published row.
func (r *Reader) CheckHistory(ctx context.Context, h History) error {
	if h.Last.IsZero() {
		return nil // nothing passes for published
	}
	now, err := r.askHead(ctx)
	if err != nil {
		return fmt.Errorf("ask which transactions are at work: %w", err)
	}
	for _, xid := range now.upper.Xip {
		if h.Last.Sees(xid) || h.Upper.Sees(xid) {
			return restored(h.Source, now.source, "transaction %d is at work, which had ended when the cursor was taken", xid)
		}
	}
	var id int64
	var xid uint64
	err = r.conn.QueryRow(ctx, r.queries.history, h.Xid, h.Last.Xmax, h.Highest, h.Last.String()).Scan(&id, &xid)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for rows of transactions that had ended: %w", err)
	}
	return restored(h.Source, now.source, "row %d is of transaction %d, which had ended when the cursor was taken, after row %d", id, xid, h.Highest)
}

// HighestID is the highest id in the table that can be seen; 0 if there is none.
func (r *Reader) HighestID(ctx context.Context) (id int64, err error) {
	err = r.conn.QueryRow(ctx, r.queries.highest).Scan(&id)
	return id, wrapped(err, "look for the highest id")
}
