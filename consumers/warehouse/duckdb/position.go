//go:build cgo

package duckdb

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// admit claims a partition, or moves its position and lifts and sets the marks of quarantined keys. It says false, with the reason in r.err, for a
// batch of an owner that is none any more or that does not begin where the last one ended.
//
// Promise 4: epoch and position are compared and set in the transaction of the rows.
func (wr *writer) admit(ctx context.Context, r *request) (bool, error) {
	if r.commit == nil {
		return true, wr.claim(ctx, r)
	}
	c := r.commit
	res, err := wr.conn.ExecContext(ctx,
		`UPDATE millrace.positions SET next = ? WHERE topic = ? AND partition = ? AND epoch = ? AND (next = -1 OR next = ?)`,
		bind(c.Next, c.Topic, c.Partition, c.Epoch, c.From))
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, err
	}
	if n != 1 {
		r.err, err = wr.whyNot(ctx, c)
		return false, err
	}
	for _, key := range c.Lifted {
		if err := wr.lift(ctx, c.TopicPartition, key); err != nil {
			return false, err
		}
	}
	for key, offset := range c.Quarantine {
		if err := wr.quarantine(ctx, c.TopicPartition, key, offset); err != nil {
			return false, err
		}
	}
	return true, nil
}

// whyNot says why a batch was not admitted.
func (wr *writer) whyNot(ctx context.Context, c *fold.Commit) (why, err error) {
	p, ok, err := wr.position(ctx, c.TopicPartition)
	switch {
	case err != nil:
		return nil, err
	case !ok || p.Epoch != c.Epoch:
		return fmt.Errorf("the epoch is %d: %w", p.Epoch, consumers.ErrFenced), nil
	}
	return fmt.Errorf("the position is %d: %w", p.Next, consumers.ErrPosition), nil
}

func (wr *writer) claim(ctx context.Context, r *request) error {
	p, ok, err := wr.position(ctx, r.tp)
	if err != nil {
		return err
	}
	if ok {
		p.Epoch++
		err = execute(ctx, wr.conn, `UPDATE millrace.positions SET epoch = ? WHERE topic = ? AND partition = ?`, p.Epoch, r.tp.Topic, r.tp.Partition)
	} else {
		p = fold.Claim{Epoch: 1, Next: -1}
		err = execute(ctx, wr.conn, `INSERT INTO millrace.positions (topic, partition, next, epoch) VALUES (?, ?, -1, 1)`, r.tp.Topic, r.tp.Partition)
	}
	if err != nil {
		return err
	}
	p.Quarantined = map[string]int64{}
	r.claim = p
	return rowsOf(ctx, wr.conn, `SELECT key, "offset" FROM millrace.quarantine WHERE topic = ? AND partition = ?`, bind(r.tp.Topic, r.tp.Partition),
		func(row []driver.Value) error {
			p.Quarantined[row[0].(string)] = row[1].(int64)
			return nil
		})
}

// position reads a partition's row; ok is false if there is none.
func (wr *writer) position(ctx context.Context, tp consumers.TopicPartition) (c fold.Claim, ok bool, err error) {
	err = rowsOf(ctx, wr.conn, `SELECT epoch, next FROM millrace.positions WHERE topic = ? AND partition = ?`, bind(tp.Topic, tp.Partition),
		func(row []driver.Value) error {
			c.Epoch, c.Next, ok = row[0].(int64), row[1].(int64), true
			return nil
		})
	return c, ok, err
}

// lift takes the mark off a key.
func (wr *writer) lift(ctx context.Context, tp consumers.TopicPartition, key string) error {
	return execute(ctx, wr.conn, `DELETE FROM millrace.quarantine WHERE topic = ? AND partition = ? AND key = ?`, tp.Topic, tp.Partition, key)
}

// quarantine marks a key. A key that is marked keeps the offset that began it.
func (wr *writer) quarantine(ctx context.Context, tp consumers.TopicPartition, key string, offset int64) error {
	return execute(ctx, wr.conn,
		`INSERT INTO millrace.quarantine SELECT v.* FROM (SELECT ? AS topic, ?::INTEGER AS partition, ? AS key, ?::BIGINT AS "offset") AS v
		 WHERE NOT EXISTS (SELECT 1 FROM millrace.quarantine q WHERE q.topic = v.topic AND q.partition = v.partition AND q.key = v.key)`,
		tp.Topic, tp.Partition, key, offset)
}
