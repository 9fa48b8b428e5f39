package history_test

import (
	"context"
	"encoding/binary"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/test/history"
)

// follower publishes into a ledger what has become visible.
type follower interface {
	// poll publishes one window, all of it, and returns how many events it had.
	poll(ctx context.Context) (int, error)
}

const seenColumns = `e.event_id, e.key, e.payload`

// publish reads rows of seenColumns into the ledger.
func publish(rows pgx.Rows, err error, ledger *history.Ledger, also ...any) (int, error) {
	if err != nil {
		return 0, err
	}
	var s history.Seen
	var payload []byte
	n := 0
	_, err = pgx.ForEachRow(rows, append([]any{&s.EventID, &s.Key, &payload}, also...), func() error {
		s.N = int64(binary.BigEndian.Uint64(payload))
		ledger.Add(s)
		n++
		return nil
	})
	return n, err
}

// byXid is the rule of most polling relays: what lies below the oldest running transaction, in the order of
// transaction ids. It inverts keys.
type byXid struct {
	conn   *pgx.Conn
	ledger *history.Ledger
	xid    uint64
	id     int64
}

func (f *byXid) poll(ctx context.Context) (int, error) {
	rows, err := f.conn.Query(ctx, `select `+seenColumns+`, e.xid, e.id from outbox.event e
		where e.xid < pg_snapshot_xmin(pg_current_snapshot()) and (e.xid, e.id) > ($1::text::xid8, $2) order by e.xid, e.id`,
		strconv.FormatUint(f.xid, 10), f.id)
	return publish(rows, err, f.ledger, &f.xid, &f.id)
}

// byID takes ids above the last one. It loses what commits later with a lower id.
type byID struct {
	conn   *pgx.Conn
	ledger *history.Ledger
	id     int64
}

func (f *byID) poll(ctx context.Context) (int, error) {
	rows, err := f.conn.Query(ctx, `select `+seenColumns+`, e.id from outbox.event e where e.id > $1 order by e.id`, f.id)
	return publish(rows, err, f.ledger, &f.id)
}

// bound says where a difference reader starts to look among the transactions from last.xmax on.
type bound int

const (
	noBound       bound = iota
	sequenceBound       // ids above the sequence as it stood before `last` was taken
	lowestFirst         // ids from the lowest one visible before `upper` was taken
)

// difference is a snapshot-difference reader of a few lines, without pages and without the flush gate: right as long
// as Postgres does not crash, if it has no bound.
type difference struct {
	conn        *pgx.Conn
	ledger      *history.Ledger
	bound       bound
	beforeUpper func() // called when a bound has been read, before `upper` is taken

	last     store.Snapshot
	sequence int64 // read before last was taken
}

func (f *difference) poll(ctx context.Context) (int, error) {
	from, sequence, err := f.lowerBound(ctx)
	if err != nil {
		return 0, err
	}
	if f.beforeUpper != nil {
		f.beforeUpper()
	}
	var text string
	if err := f.conn.QueryRow(ctx, `select pg_current_snapshot()::text`).Scan(&text); err != nil {
		return 0, err
	}
	upper, err := store.ParseSnapshot(text)
	if err != nil {
		return 0, err
	}
	late := make([]string, len(f.last.Xip))
	for i, xid := range f.last.Xip {
		late[i] = strconv.FormatUint(xid, 10)
	}
	rows, err := f.conn.Query(ctx, `select `+seenColumns+` from outbox.event e
		where (e.xid >= $1::text::xid8 and e.id >= $4 or e.xid = any($2::text[]::xid8[]))
		and pg_visible_in_snapshot(e.xid, $3::text::pg_snapshot) order by e.id`,
		strconv.FormatUint(f.last.Xmax, 10), late, text, from)
	n, err := publish(rows, err, f.ledger)
	if err != nil {
		return n, err
	}
	f.last, f.sequence = upper, sequence
	return n, nil
}

func (f *difference) lowerBound(ctx context.Context) (from, sequence int64, err error) {
	switch f.bound {
	case sequenceBound:
		err = f.conn.QueryRow(ctx, `select case when is_called then last_value else 0 end from outbox.event_id_seq`).Scan(&sequence)
		return f.sequence + 1, sequence, err
	case lowestFirst:
		err = f.conn.QueryRow(ctx, `select coalesce(min(e.id), $2) from outbox.event e where e.xid >= $1::text::xid8`,
			strconv.FormatUint(f.last.Xmax, 10), int64(1)<<62).Scan(&from)
		return from, 0, err
	}
	return 0, 0, nil
}
