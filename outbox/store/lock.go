package store

import (
	"context"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// lockKeys must compute what the function lock_key of the migrations computes. distinct with order by is worked out
// before the first lock is taken, so that all callers lock in one order.
const lockKeys = `
	select pg_advisory_xact_lock(k.id)
	  from (select distinct hashtextextended(key, hashtextextended($1::text, 0)) as id from unnest($2::text[]) as key order by 1) as k`

// LockKeys locks keys of a topic until the end of the transaction.
func LockKeys(ctx context.Context, tx dbtx.Tx, topic string, keys []string) error {
	_, err := tx.Exec(ctx, lockKeys, topic, texts(keys))
	return err
}
