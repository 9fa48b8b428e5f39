package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox"
)

// Loading a million events must take seconds: they are written by COPY, from two connections, a thousand to a
// transaction. Each connection has keys of its own, so that the order within a key is that of n.
const (
	loaders   = 2
	loadPerTx = 1000
	loadChunk = 10_000 // rows of one COPY; a larger transaction has several
	copyInto  = `COPY outbox.event (event_id, topic, key, type, schema_fp, payload) FROM STDIN (FORMAT binary)`
)

// load writes events from to to-1, perTx to a transaction.
func (s *site) load(ctx context.Context, from, to, perTx int64) error {
	n := to - from
	var written atomic.Int64
	tell := s.rig.progress(func() string { return fmt.Sprintf("loading: %s of %s events", thousands(written.Load()), thousands(n)) })
	defer tell()
	workers := int64(loaders)
	if perTx >= n {
		workers = 1
	}
	var all sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		all.Go(func() { errs[w] = s.loadSome(ctx, from+w, to, workers, perTx, &written) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("load %d events: %w", n, err)
		}
	}
	return nil
}

// loadSome writes every step-th event from first on, below to.
func (s *site) loadSome(ctx context.Context, first, to, step, perTx int64, written *atomic.Int64) error {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for next := first; next < to; {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		for left := perTx; left > 0 && next < to; {
			rows := newCopyRows(s)
			for ; rows.count < min(left, loadChunk) && next < to; next += step {
				rows.add(next)
			}
			if _, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(rows.end()), copyInto); err != nil {
				return err
			}
			left -= rows.count
			written.Add(rows.count)
		}
		if err := tx.Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// copyRows is a stream of COPY in its binary format.
type copyRows struct {
	site  *site
	buf   []byte
	count int64
	tmp   []byte
}

func newCopyRows(s *site) *copyRows {
	return &copyRows{site: s, buf: append([]byte("PGCOPY\n\xff\r\n\x00"), make([]byte, 8)...)} // no flags, no extension
}

func (c *copyRows) add(n int64) {
	c.buf = binary.BigEndian.AppendUint16(c.buf, 6)
	id := outbox.NewID()
	c.field(id[:])
	c.field([]byte(c.site.topic))
	c.field([]byte(keyOf(n)))
	c.field([]byte(Order{}.EventType()))
	c.field(c.site.rig.maker.schema.Fingerprint[:])
	c.tmp = c.site.rig.maker.append(c.tmp[:0], n, 0)
	c.field(c.tmp)
	c.count++
}

func (c *copyRows) field(b []byte) {
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(len(b)))
	c.buf = append(c.buf, b...)
}

func (c *copyRows) end() []byte { return binary.BigEndian.AppendUint16(c.buf, 0xffff) }

// settle brings the table into the state in which autovacuum leaves a backlog that has waited for a minute: hint bits set,
// statistics taken, nothing left to be written by a checkpoint.
func (s *site) settle(ctx context.Context) error {
	for _, sql := range []string{"VACUUM (ANALYZE) outbox.event", "CHECKPOINT"} {
		if _, err := s.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
