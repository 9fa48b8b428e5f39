package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// claimTries is how often a claim ends a commit of the former owner that does not end by itself.
const claimTries = 3

// Claim implements fold.Sink. It waits for a commit of the partition's former owner that is at work, and ends its connection if that
// takes longer than Config.ClaimPatience: a process that is frozen in mid-commit would hold the partition for as long as its
// connection lives.
func (w *Warehouse) Claim(ctx context.Context, tp consumers.TopicPartition) (c fold.Claim, err error) {
	if err := w.enter(); err != nil {
		return c, err
	}
	defer w.leave()
	for try := 1; ; try++ {
		c, err = w.claim(ctx, tp)
		if !is(err, lockNotAvailable) || try == claimTries {
			break
		}
		if err := w.evict(ctx, tp); err != nil {
			return fold.Claim{}, doing(err, "claim %s/%d: end the former owner's commit", tp.Topic, tp.Partition)
		}
	}
	return c, doing(err, "claim %s/%d", tp.Topic, tp.Partition)
}

func (w *Warehouse) claim(ctx context.Context, tp consumers.TopicPartition) (c fold.Claim, err error) {
	err = w.transaction(ctx, func(tx pgx.Tx) error {
		for _, s := range []string{
			fmt.Sprintf("SET LOCAL lock_timeout = %d", max(w.cfg.ClaimPatience.Milliseconds(), 1)),
			// A claim is durable, whatever the role does without for the sake of speed.
			"SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
			fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", w.partitionLock(tp)),
		} {
			if _, err := tx.Exec(ctx, s, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		c.Quarantined = map[string]int64{}
		m := w.space.millrace
		err := tx.QueryRow(ctx, `INSERT INTO `+m+`.positions AS p (topic, partition, next, epoch) VALUES ($1, $2, -1, 1)
			ON CONFLICT (topic, partition) DO UPDATE SET epoch = p.epoch + 1 RETURNING epoch, next`, tp.Topic, tp.Partition).Scan(&c.Epoch, &c.Next)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT key, "offset" FROM `+m+`.quarantine WHERE topic = $1 AND partition = $2`, tp.Topic, tp.Partition)
		if err != nil {
			return err
		}
		var key string
		var offset int64
		_, err = pgx.ForEachRow(rows, []any{&key, &offset}, func() error { c.Quarantined[strings.Clone(key)] = offset; return nil })
		return err
	})
	return c, err
}

// evict ends the connection that is in mid-commit of a partition.
func (w *Warehouse) evict(ctx context.Context, tp consumers.TopicPartition) error {
	id := uint64(w.partitionLock(tp))
	conn, _, err := w.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, `SELECT l.pid, pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.classid::bigint = $1 AND l.objid::bigint = $2 AND l.objsubid = 1
		AND l.granted AND l.pid <> pg_backend_pid()`, int64(id>>32), int64(id&0xffffffff))
	if err != nil {
		return err
	}
	var pid int32
	var ended bool
	_, err = pgx.ForEachRow(rows, []any{&pid, &ended}, func() error {
		w.cfg.Logger.Warn("the former owner of a partition was in mid-commit for too long; its connection was ended", "topic", tp.Topic, "partition", tp.Partition, "pid", pid)
		return nil
	})
	return err
}

// transaction runs f in a transaction on a connection of the pool.
func (w *Warehouse) transaction(ctx context.Context, f func(pgx.Tx) error) error {
	conn, _, err := w.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return inTransaction(ctx, conn.Conn(), f)
}

// inTransaction commits what f does, or nothing of it.
func inTransaction(ctx context.Context, conn *pgx.Conn, f func(pgx.Tx) error) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if rerr := tx.Rollback(ctx); rerr != nil && !errors.Is(rerr, pgx.ErrTxClosed) {
			var pg *pgconn.PgError
			if !errors.As(err, &pg) { // the first error is the one that counts
				return errors.Join(err, rerr)
			}
		}
		return err
	}
	return tx.Commit(ctx)
}
