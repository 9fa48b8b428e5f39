package outbox

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
	"github.com/millrace/millrace/outbox/store"
)

// LockKey makes the writers of some keys of a topic take turns: it waits until no other transaction holds the lock of
// one of the keys, and holds them until the end of tx. It is for writers that have no row to lock, such as those that
// create an entity. Keys are locked in one order, so that two calls cannot block each other; two calls in one
// transaction can.
//
// Promise 2: take the lock before reading what the event depends on, and before Write. Under isolation levels above
// READ COMMITTED take it in a statement of its own before anything else, or the transaction reads a state from before
// it got its turn.
//
// Programs in other languages take the same lock with the function lock_key(topic, key).
func LockKey(ctx context.Context, tx pgx.Tx, topic string, keys ...string) error {
	if tx == nil {
		return errNoTx
	}
	return lockKeys(ctx, dbtx.Pgx(tx), topic, keys)
}

// LockKeySQL is LockKey for database/sql.
func LockKeySQL(ctx context.Context, tx *sql.Tx, topic string, keys ...string) error {
	if tx == nil {
		return errNoTx
	}
	return lockKeys(ctx, dbtx.SQL(tx), topic, keys)
}

func lockKeys(ctx context.Context, tx dbtx.Tx, topic string, keys []string) error {
	for _, k := range append([]string{topic}, keys...) {
		if fault := textFault(k); fault != "" {
			return fmt.Errorf("outbox: lock keys of topic %s: %s holds %s", quote(topic), quote(k), fault)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if err := store.LockKeys(ctx, tx, topic, keys); err != nil {
		return fmt.Errorf("outbox: lock %d keys of topic %s: %w", len(keys), quote(topic), err)
	}
	return nil
}
