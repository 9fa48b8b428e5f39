package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/internal/pace"
)

// The lock of the commits is waited for as long as a commit may take; commits that come later wait meanwhile. A view is asked for a short while, for
// later readers wait behind us, and whoever reads several of them in another order than ours would wait for ever; then all is let go, and tried again.
const (
	viewWait     = 200 * time.Millisecond
	servePause   = 200 * time.Millisecond
	barrierWait  = 5 * time.Second
	snapshotPoll = 100 * time.Millisecond
)

// errServed says that another generation has begun to serve in the meantime.
var errServed = errors.New("another generation serves since a moment ago")

// Serve implements fold.Generational: it leads the views of readers to the tables of this generation, all in one transaction.
//
// A reader that is REPEATABLE READ finds the newest tables by the views, and sees their rows as of its own beginning. So a reader that began while this
// generation was not as far as the one that serves would step back. They are waited for first, up to Config.ServePatience or as long as ctx lets it; then it is ErrBehind.
// AwaitReaders has waited for most of them before.
//
// Promise 8: positions are compared in the step that swaps, while no commit is at work.
func (w *Warehouse) Serve(ctx context.Context) error {
	if err := w.enter(); err != nil {
		return err
	}
	defer w.leave()
	return doing(w.serve(ctx), "let generation %d of the warehouse serve", w.space.generation)
}

func (w *Warehouse) serve(ctx context.Context) error {
	conn, err := w.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = hangUp(conn) }()
	deadline := time.Now().Add(w.cfg.ServePatience)
	if over, ok := ctx.Deadline(); ok && over.Before(deadline) {
		deadline = time.Now().Add(time.Until(over) * 3 / 4) // so that there is time to say whom it waits for
	}
	for first := true; ; first = false {
		old, err := w.servingOf(ctx, conn)
		if err != nil || old == w.space.generation {
			return err
		}
		if err := w.behind(ctx, conn, old); err != nil {
			return err
		}
		if first {
			if err := w.awaitSnapshots(ctx, conn, deadline, func(string) {}); err != nil {
				return err
			}
		}
		if err := w.at("before serving"); err != nil {
			return err
		}
		err = inTransaction(ctx, conn, func(tx pgx.Tx) error { return w.takeOver(ctx, tx, old) })
		switch {
		case err == nil:
			w.cfg.Logger.Info("the views of the warehouse show another generation", "generation", w.space.generation, "before", old)
			return w.at("after serving")
		case !is(err, lockNotAvailable) && !errors.Is(err, errServed):
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("%w: what reads its views does not end (see pg_stat_activity): %w", fold.ErrBehind, err)
		}
		if err := pace.Sleep(ctx, servePause); err != nil {
			return err
		}
	}
}

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// servingOf reads which generation serves.
func (w *Warehouse) servingOf(ctx context.Context, q querier) (n int, err error) {
	err = q.QueryRow(ctx, "SELECT generation FROM "+w.space.root+".serving").Scan(&n)
	return n, err
}

// serves says whether this generation does.
func (w *Warehouse) serves(ctx context.Context, q querier) (bool, error) {
	n, err := w.servingOf(ctx, q)
	return n == w.space.generation, err
}

// behind returns ErrBehind if another generation is ahead of this one in a partition of a topic that this one follows.
func (w *Warehouse) behind(ctx context.Context, q querier, other int) error {
	o, m := spaceOf(w.cfg.Schema, other).millrace, w.space.millrace
	var there bool
	if err := q.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", o+".positions").Scan(&there); err != nil || !there {
		return err
	}
	var topic string
	var partition int32
	var theirs, ours int64
	err := q.QueryRow(ctx, `SELECT topic, partition, o.next, coalesce(n.next, -1) FROM `+o+`.positions o LEFT JOIN `+m+`.positions n USING (topic, partition)
		WHERE o.next > greatest(coalesce(n.next, -1), 0) AND (topic IN (SELECT e.topic FROM `+m+`.entities e) OR topic IN (SELECT p.topic FROM `+m+`.positions p))
		ORDER BY topic, partition LIMIT 1`).Scan(&topic, &partition, &theirs, &ours)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: of %s/%d it has applied what is below %d, generation %d what is below %d", fold.ErrBehind, topic, partition, max(ours, 0), other, theirs)
}

// takeOver leads the views to this generation's tables.
func (w *Warehouse) takeOver(ctx context.Context, tx pgx.Tx, old int) error {
	if err := w.stopBoth(ctx, tx, old); err != nil {
		return err
	}
	now, err := w.servingOf(ctx, tx)
	if err == nil && now != old {
		err = errServed
	}
	if err == nil {
		err = w.behind(ctx, tx, old)
	}
	if err != nil {
		return err
	}
	v, missing, err := w.inspect(ctx, tx.Conn())
	if err != nil || missing {
		return errors.Join(ErrReplaced, err)
	}
	if err := w.carryAll(ctx, tx, old, v); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", viewWait.Milliseconds())); err != nil {
		return err
	}
	entities := slices.Sorted(maps.Keys(v.tables))
	names := []string{w.space.bronze + ".events"}
	for _, e := range entities {
		names = append(names, v.tables[e].view(w.space))
	}
	if err := lockViews(ctx, tx, names); err != nil {
		return err
	}
	for _, e := range entities {
		if err := show(ctx, tx, v.tables[e].view(w.space), v.tables[e].viewQuery(w.space)); err != nil {
			return fmt.Errorf("entity %s: %w", e, err)
		}
	}
	if err := w.at("within serving"); err != nil {
		return err
	}
	if err := show(ctx, tx, w.space.bronze+".events", bronzeQuery(w.space)); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE "+w.space.root+".serving SET generation = $1", w.space.generation)
	return err
}

// stopBoth waits until no commit of the two generations is at work, in order of their numbers, and until nobody else looks which one serves.
func (w *Warehouse) stopBoth(ctx context.Context, tx pgx.Tx, old int) error {
	if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", barrierWait.Milliseconds())); err != nil {
		return err
	}
	for _, n := range []int{min(old, w.space.generation), max(old, w.space.generation)} {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", spaceOf(w.cfg.Schema, n).barrier()); err != nil {
			return err
		}
	}
	return w.lockServing(ctx, tx)
}

// lockServing is held by whoever changes what readers see: the views, and which generation serves. It is taken after the barriers.
func (w *Warehouse) lockServing(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", w.space.sharedID("serving"))
	return err
}

// reader is a transaction with a snapshot.
type reader struct {
	pid  int32
	vxid string
	xmin string // "" if it is hidden from us
	user string
}

// openReaders are the transactions of others in this database that have a snapshot. Of a session whose details this role may not see, every transaction is
// one.
const openReaders = `SELECT l.pid, l.virtualtransaction, coalesce(a.backend_xmin::text, ''), coalesce(a.usename, '') FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
	WHERE l.locktype = 'virtualxid' AND l.granted AND l.mode = 'ExclusiveLock' AND l.pid <> pg_backend_pid() AND a.datname = current_database()
	AND (a.backend_xmin IS NOT NULL OR a.state IS NULL) AND coalesce(a.backend_type, 'client backend') IN ('client backend', 'parallel worker')`

func readers(ctx context.Context, conn *pgx.Conn) ([]reader, error) {
	rows, err := conn.Query(ctx, openReaders)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r reader, err error) {
		err = row.Scan(&r.pid, &r.vxid, &r.xmin, &r.user)
		return r, err
	})
}

// awaitSnapshots waits until every snapshot that is open now is gone, as CREATE INDEX CONCURRENTLY does. The zero deadline is none.
func (w *Warehouse) awaitSnapshots(ctx context.Context, conn *pgx.Conn, deadline time.Time, tell func(whom string)) error {
	left, err := readers(ctx, conn)
	for err == nil && len(left) > 0 {
		whom := fmt.Sprintf("a transaction that began before it had caught up (of user %q, pid %d; one of %d)", left[0].user, left[0].pid, len(left))
		if !deadline.IsZero() && time.Now().After(deadline) {
			return fmt.Errorf("%w for %s: end it, or let it end", fold.ErrBehind, whom)
		}
		tell(whom)
		if err := pace.Sleep(ctx, snapshotPoll); err != nil {
			return err
		}
		var now []reader
		now, err = readers(ctx, conn)
		left = slices.DeleteFunc(left, func(r reader) bool { return !slices.Contains(now, r) })
	}
	return err
}

var _ fold.Awaiter = (*Warehouse)(nil)

// AwaitReaders implements fold.Awaiter.
func (w *Warehouse) AwaitReaders(ctx context.Context, tell func(whom string)) error {
	if err := w.enter(); err != nil {
		return err
	}
	defer w.leave()
	conn, err := w.dial(ctx)
	if err == nil {
		defer func() { _ = hangUp(conn) }()
		err = w.awaitSnapshots(ctx, conn, time.Time{}, tell)
	}
	return doing(err, "wait for those who read the warehouse before generation %d serves", w.space.generation)
}

// ServingGeneration is the generation that readers of a warehouse see; 0 if there is no warehouse yet. It makes nothing.
func ServingGeneration(ctx context.Context, cfg Config) (n int, err error) {
	cfg = cfg.WithDefaults()
	w := &Warehouse{cfg: cfg, space: spaceOf(cfg.Schema, 1)}
	conn, err := w.dial(ctx)
	if err == nil {
		defer func() { _ = hangUp(conn) }()
		var there bool
		if err = conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", w.space.root+".serving").Scan(&there); err == nil && there {
			n, err = w.servingOf(ctx, conn)
		}
	}
	return n, doing(err, "ask which generation of the warehouse serves")
}
