package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// Ring is what the leaves of the event table hold. The sequence fills one leaf after the other; a leaf that it has left
// is emptied when its rows need not be retained any longer, and is then ready for the sequence to come round.
type Ring struct {
	// Now is the database's clock, which the times below are of.
	Now time.Time
	// Generation is the upper half of the ids being drawn, as written down; the current leaf is Generation modulo LeafCount.
	Generation int64
	// Floor is an id: rows below it may have been removed. A reader that goes through retained rows in several statements
	// reads the ring after each page: what it read is complete if Floor is not above the id it asked from.
	Floor int64
	// Leaves are by number.
	Leaves [LeafCount]Leaf
}

// Leaf is a part of the event table.
type Leaf struct {
	// Entered and Left are when the sequence came and went; zero if it did not, or if that was before anybody wrote it down.
	Entered, Left time.Time
	// LeftXid is above the transaction id of everybody who can have rows in the leaf; 0 while it has not been left.
	LeftXid uint64
	// Emptied is when its rows were removed since; zero if they were not.
	Emptied time.Time
	// Bytes is its size on disk, with indexes.
	Bytes int64
	// NewestXid is the highest transaction id of a committed row; 0 if there is no such row.
	NewestXid uint64
}

// Current is the number of the leaf that the sequence is in.
func (r *Ring) Current() int { return int(r.Generation & (LeafCount - 1)) }

// Before is the number of the leaf that the sequence left n leaves ago.
func (r *Ring) Before(n int) int { return int((r.Generation - int64(n)) & (LeafCount - 1)) }

// Ahead counts the empty leaves before the sequence: 0 means that it cannot be moved on.
func (r *Ring) Ahead() int {
	for n := 1; n < LeafCount; n++ {
		if r.Leaves[r.Before(LeafCount-n)].NewestXid != 0 {
			return n - 1
		}
	}
	return LeafCount - 1
}

const ringPlans = `set local enable_seqscan = off; set local enable_bitmapscan = off; set local jit = off`

const ringQuery = `
select clock_timestamp(), r.generation, r.floor from {{schema}}.ring r where r.singleton`

// leafQuery finds the newest xid of a leaf at the end of its index.
const leafQuery = `
select l.leaf, l.entered_at, l.left_at, coalesce(l.left_xid::text, '0'), l.emptied_at,
	pg_total_relation_size(format('%s_%s', $1::text, l.leaf)::regclass),
	coalesce(case l.leaf {{newest}} end::text, '0')
from {{schema}}.leaf l order by l.leaf`

// ReadRing reads what the leaves hold. It takes a lock on each for a moment, as any query of the table does.
func ReadRing(ctx context.Context, conn *pgx.Conn, schema string) (Ring, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return Ring{}, err
	}
	var newest strings.Builder
	for leaf := range LeafCount {
		fmt.Fprintf(&newest, " when %d then (select e.xid from %s.event_%d e order by e.xid desc, e.id desc limit 1)", leaf, quoted, leaf)
	}
	query := strings.NewReplacer("{{newest}}", newest.String(), "{{schema}}", quoted)
	var r Ring
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, ringPlans, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, query.Replace(ringQuery)).Scan(&r.Now, &r.Generation, &r.Floor); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, query.Replace(leafQuery), quoted+".event")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := r.scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return Ring{}, fmt.Errorf("read what the leaves of the outbox hold: %w", err)
	}
	return r, nil
}

func (r *Ring) scan(rows pgx.Rows) error {
	var leaf int
	var entered, left, emptied *time.Time
	var leftXid, newestXid string
	var l Leaf
	err := rows.Scan(&leaf, &entered, &left, &leftXid, &emptied, &l.Bytes, &newestXid)
	if err != nil {
		return err
	}
	for at, from := range map[*time.Time]*time.Time{&l.Entered: entered, &l.Left: left, &l.Emptied: emptied} {
		if from != nil {
			*at = *from
		}
	}
	var err1, err2 error
	l.LeftXid, err1 = strconv.ParseUint(leftXid, 10, 64)
	l.NewestXid, err2 = strconv.ParseUint(newestXid, 10, 64)
	r.Leaves[leaf&(LeafCount-1)] = l
	return errors.Join(err1, err2)
}

// Turn is what came of TurnRing.
type Turn string

const (
	// Turned: the sequence was moved to the next leaf.
	Turned Turn = "turned"
	// TurnSettled: the sequence had gone to another leaf by itself; that is now written down.
	TurnSettled Turn = "settled"
	// TurnSame: there was nothing to do.
	TurnSame Turn = "same"
	// TurnBusy: another session was at it.
	TurnBusy Turn = "busy"
	// TurnFull: the next leaf still holds rows.
	TurnFull Turn = "full"
	// TurnLate: the next leaf is empty, but a transaction that is still open may have drawn an id in it.
	TurnLate Turn = "late"
	// TurnEnding: the current leaf is nearly full; the sequence leaves it by itself.
	TurnEnding Turn = "ending"
)

// TurnRing writes down where the sequence of ids is and, with jump, moves it to the next leaf if that is empty. The
// sequence never goes back, whoever calls this, and no writer waits. conn must not be in a transaction.
func TurnRing(ctx context.Context, conn *pgx.Conn, schema string, jump bool) (Turn, error) {
	var turn Turn
	err := callRing(ctx, conn, schema, "turn_ring($1)", &turn, jump)
	if err != nil {
		return "", fmt.Errorf("move the ids on to the next leaf: %w", err)
	}
	return turn, nil
}

// Emptying is what came of EmptyLeaf.
type Emptying string

const (
	// Emptied: the rows are gone.
	Emptied Emptying = "emptied"
	// EmptyBusy: another session was at it.
	EmptyBusy Emptying = "busy"
	// EmptyCurrent: the sequence is in the leaf, or was never there.
	EmptyCurrent Emptying = "current"
	// EmptyUnsettled: the sequence is not where it was written down; call TurnRing.
	EmptyUnsettled Emptying = "unsettled"
	// EmptyRetained: the sequence left it later than before.
	EmptyRetained Emptying = "retained"
	// EmptyUnpublished: it holds rows that last does not see.
	EmptyUnpublished Emptying = "unpublished"
	// EmptyLocked: somebody has been reading the leaf or writing to it, for longer than may be waited.
	EmptyLocked Emptying = "locked"
)

// EmptyLeaf removes the rows of a leaf that the sequence left before the given time of the database's clock. last must
// be that of the committed cursor, neither a window's upper nor one whose commit is not known: rows that it does not
// see keep the leaf from being emptied. An INSERT into this very leaf, which has drawn its id long ago, waits for some
// 30 ms at most; its row is found by later polls. conn must not be in a transaction.
//
// Promise 6: rows leave by the leaf. None is updated or deleted by itself, and who cannot have the leaf at once gives up.
func EmptyLeaf(ctx context.Context, conn *pgx.Conn, schema string, leaf int, last Snapshot, before time.Time) (Emptying, error) {
	if last.IsZero() {
		return EmptyUnpublished, nil
	}
	var emptying Emptying
	err := callRing(ctx, conn, schema, "empty_leaf($1, $2::text::pg_snapshot, $3)", &emptying, leaf, last.String(), before)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == lockNotAvailable {
		return EmptyLocked, nil
	}
	if err != nil {
		return "", fmt.Errorf("empty leaf %d of the outbox: %w", leaf, err)
	}
	return emptying, nil
}

const lockNotAvailable = "55P03"

// callRing calls a function of the ring in a transaction of its own. What it does must be on the disk before anything
// is built on it, but a lock is not held while a standby confirms: synchronous_commit is local.
func callRing(ctx context.Context, conn *pgx.Conn, schema, call string, answer any, args ...any) error {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return err
	}
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local synchronous_commit = local; set local statement_timeout = '5s'`, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "select "+quoted+"."+call, args...).Scan(answer)
	})
}
