package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// StampPublished sees to it that no published row comes up as new: one whose xid the database has not come to yet, for it
// is another cluster's, and one that only the verdict calls published. Most often there are none. progress is called with
// the ids that have been looked at.
func (a *Anchor) StampPublished(ctx context.Context, progress func(id int64)) (rows int64, err error) {
	h, err := a.head(ctx)
	if err != nil {
		return 0, err
	}
	return a.stamp(ctx, h.highest, progress, `update {{schema}}.event e set xid = '`+publishedXid+`'::xid8
		where e.id > $6 and e.id <= $7 and e.xid <> '`+publishedXid+`'::xid8
			and case when `+foundSQL+` then not pg_visible_in_snapshot(e.xid, (select $8::text::pg_snapshot)) else `+judgedSQL+` end`,
		h.upper.String())
}

// StampUnpublished makes every row that was not published new for a relay that goes on from the snapshot it returns: it
// gives them xids drawn after that snapshot was taken. Rows that are committed meanwhile are new by themselves. source
// is what the database said of itself with the snapshot; what both contain is flushed when StampUnpublished returns.
//
// The snapshot comes first. The transactions that had completed by then are the ones whose rows it would hide; they are
// all visible to the statements that follow.
func (a *Anchor) StampUnpublished(ctx context.Context, progress func(id int64)) (last Snapshot, source Source, rows int64, err error) {
	h, err := a.head(ctx)
	if err != nil {
		return Snapshot{}, Source{}, 0, err
	}
	a.verdict.Given = true
	rows, err = a.stamp(ctx, h.highest, progress, `update {{schema}}.event e set xid = pg_current_xact_id()
		where e.id > $6 and e.id <= $7 and not `+judgedSQL+` and not `+foundSQL+` and $8::text <> ''`, h.upper.String())
	if err != nil {
		return Snapshot{}, Source{}, rows, err
	}
	// Promise 1: the cursor must not hold what a crash could undo. This commits behind the snapshot, whether or not a row was updated, and
	// waits for the disk (see anchorTables): what the snapshot has seen is flushed with it.
	if err := a.renewLeaves(ctx); err != nil {
		return Snapshot{}, Source{}, rows, err
	}
	return h.upper, h.source, rows, nil
}

// anchorHead is the database at one instant, and the highest id that was drawn for a row committed by then.
type anchorHead struct {
	head
	highest int64
}

func (a *Anchor) head(ctx context.Context) (h anchorHead, err error) {
	var described []byte
	if err := a.conn.QueryRow(ctx, headQuery).Scan(&described); err != nil {
		return h, fmt.Errorf("ask the database about itself: %w", err)
	}
	if h.head, err = parseHead(append([]byte{1}, described...)); err != nil {
		return h, err
	}
	if err := Check(Source{}, h.source); err != nil {
		return h, err
	}
	// In a later statement, never before: a higher id could be committed in between.
	if err := a.conn.QueryRow(ctx, a.in(`select coalesce(max(id), 0) from {{schema}}.event`)).Scan(&h.highest); err != nil {
		return h, fmt.Errorf("look for the highest id: %w", err)
	}
	return h, nil
}

// stamp runs the update over the ids up to highest, in batches. $6 and $7 are the bounds of a batch, $8 is more.
func (a *Anchor) stamp(ctx context.Context, highest int64, progress func(id int64), update string, more string) (rows int64, err error) {
	for after := int64(0); after < highest; {
		var to int64
		err := a.write(ctx, func(tx pgx.Tx) error {
			err := tx.QueryRow(ctx, a.in(`select coalesce(max(id), $2::bigint) from (
				select id from {{schema}}.event where id > $1::bigint and id <= $2::bigint order by id limit $3::int) batch`),
				after, highest, a.batch).Scan(&to)
			if err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, a.in(update), a.verdictArgs(after, to, more)...)
			rows += tag.RowsAffected()
			return err
		})
		if err != nil {
			return rows, fmt.Errorf("restamp the rows after id %d: %w", after, err)
		}
		after = to
		progress(after)
	}
	return rows, nil
}

// sequenceStep is how many ids are drawn in one statement.
const sequenceStep = 100_000

// DrawTo draws ids until none up to to is left: a restored sequence would give those of lost events again. It draws
// because a setval could set the sequence back below what writers drew meanwhile; but where whole leaves lie in between,
// it jumps to the leaf after that of to.
func (a *Anchor) DrawTo(ctx context.Context, to int64, progress func(id int64)) error {
	sequence := a.quoted + `.event_id_seq`
	for {
		var at int64
		if err := a.conn.QueryRow(ctx, `select case when is_called then last_value else last_value - 1 end from `+sequence).Scan(&at); err != nil {
			return fmt.Errorf("look at the id sequence: %w", err)
		}
		if at >= to {
			return nil
		}
		if jumped, err := a.jump(ctx, to); err != nil || jumped {
			return err
		}
		err := a.write(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `select count(nextval($1::text::regclass)) from generate_series(1, $2::bigint)`, sequence, min(to-at, sequenceStep))
			return err
		})
		if err != nil {
			return fmt.Errorf("draw the ids up to %d: %w", to, err)
		}
		progress(min(at+sequenceStep, to))
	}
}

// SequenceBehind returns how many ids up to to have not been drawn yet.
func (a *Anchor) SequenceBehind(ctx context.Context, to int64) (int64, error) {
	var at int64
	err := a.conn.QueryRow(ctx, `select case when is_called then last_value else last_value - 1 end from `+a.quoted+`.event_id_seq`).Scan(&at)
	return max(0, to-at), wrapped(err, "look at the id sequence")
}
