package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// renewLeaves is called when rows have got new transaction ids, whatever leaf they are in: polls leave a leaf out when last
// has passed its left_xid, so those must be above the new ones. They may also be from another cluster.
func (a *Anchor) renewLeaves(ctx context.Context) error {
	err := a.write(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, a.in(`update {{schema}}.leaf set left_xid = pg_current_xact_id() where left_xid is not null`)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, a.in(`update {{schema}}.ring set epoch = epoch + 1`))
		return err
	})
	return wrapped(err, "renew what is known of the leaves")
}

// jump moves the sequence past the leaf that to belongs into, if it is in an earlier one. It takes turns with turn_ring;
// that the leaf may hold rows does no harm: a reader that finds the sequence where nobody wrote it down leaves no leaf out.
func (a *Anchor) jump(ctx context.Context, to int64) (jumped bool, err error) {
	const leaf = 1 << 32
	sequence := a.quoted + `.event_id_seq`
	err = a.write(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1::int, hashtext($2::text))`, ringClass, a.schema); err != nil {
			return err
		}
		var at int64
		if err := tx.QueryRow(ctx, `select last_value from `+sequence).Scan(&at); err != nil {
			return err
		}
		if at>>32 >= to>>32 || at%leaf >= leaf/16*15 { // writers may take it into the next leaf themselves
			return nil
		}
		jumped = true
		_, err := tx.Exec(ctx, `select setval($1::text::regclass, $2::bigint, true)`, sequence, (to>>32+1)<<32)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("move the ids past %d: %w", to, err)
	}
	return jumped, nil
}

// ringClass is the first half of the key of the lock that turn_ring and empty_leaf take.
const ringClass = 0x6d74
