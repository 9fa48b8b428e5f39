package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Commit implements fold.Sink.
func (w *Warehouse) Commit(ctx context.Context, c fold.Commit) error {
	if err := w.enter(); err != nil {
		return err
	}
	defer w.leave()
	start := time.Now()
	err := w.commit(ctx, &c)
	if errors.Is(err, errMoved) {
		err = w.look(ctx, err)
	}
	if err != nil {
		return doing(err, "commit %s/%d from %d to %d at epoch %d", c.Topic, c.Partition, c.From, c.Next, c.Epoch)
	}
	w.metrics.committed(&c, w.cfg.Bronze != BronzeOff, time.Since(start))
	return nil
}

// commit writes a batch in one burst.
//
// Promise 4: epoch and position are compared and set in the transaction of the rows.
func (w *Warehouse) commit(ctx context.Context, c *fold.Commit) error {
	conn, l, err := w.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	v := w.current()
	if l.generation != v.generation {
		return errMoved
	}
	for entity := range c.Changes {
		if v.tables[entity] == nil {
			return consumers.AsSystemic(fmt.Errorf("%s: %w", entity, errUnknownEntity))
		}
	}
	b := newBurst(ctx, conn.Conn().PgConn(), l.buf)
	if err := w.batch(b, v, c); err != nil {
		b.abandon()
		discard(conn)
		return err
	}
	err = b.commit(w.cfg.CommitTimeout, stCommit, func() error { return w.at("commit sent") })
	l.buf = b.buf
	if err != nil {
		// Whatever it is that failed, the connection is not trusted again. If the outcome is open, the position tells at the next try.
		b.abandon()
		discard(conn)
		return classify(err)
	}
	return w.at("after commit")
}

// batch writes everything of a transaction but its end.
func (w *Warehouse) batch(b *burst, v *view, c *fold.Commit) error {
	if err := b.run(stBegin); err != nil {
		return err
	}
	if err := b.run(stAdvance, w.advance(v, c)...); err != nil {
		return err
	}
	if err := mark(b, c); err != nil {
		return err
	}
	if err := w.point(b, "after position"); err != nil {
		return err
	}
	if w.cfg.Bronze != BronzeOff && len(c.Events) > 0 {
		withData := w.cfg.Bronze == BronzeJSON
		err := b.copyRows(stBronze, len(c.Events), func(buf []byte, i int) ([]byte, error) { return appendEvent(buf, &c.Events[i], withData), nil })
		if err != nil {
			return err
		}
	}
	if err := w.point(b, "after bronze"); err != nil {
		return err
	}
	// In order of their names, as the rows are in order of their keys: two transactions that met would wait for each other in one
	// direction only.
	for _, entity := range slices.Sorted(maps.Keys(c.Changes)) {
		put := stUpsert
		if c.Replace {
			put = stReplace
		}
		if err := stage(b, v.tables[entity], inOrder(c.Changes[entity]), put); err != nil {
			return fmt.Errorf("%s: %w", entity, err)
		}
	}
	return w.point(b, "before commit")
}

// mark lifts and sets the marks of quarantined keys.
func mark(b *burst, c *fold.Commit) error {
	if len(c.Lifted) > 0 {
		if err := b.runBinary(stLift, []byte(c.Topic), be.AppendUint32(nil, uint32(c.Partition)), textArray(c.Lifted)); err != nil {
			return err
		}
	}
	if len(c.Quarantine) == 0 {
		return nil
	}
	return b.runBinary(stQuarantine, quarantine(c)...)
}

// stage copies changes into the staging table, and has them stored from there by one of two statements.
func stage(b *burst, t *table, changes []fold.Change, put string) error {
	if len(changes) == 0 {
		return nil
	}
	err := b.copyRows(stCopy+t.entity, len(changes), func(buf []byte, i int) ([]byte, error) {
		out, err := t.appendRow(buf, &changes[i])
		if err != nil { // the declaration and its values do not match: no retry helps
			return out, consumers.AsSystemic(fmt.Errorf("%q: %w", changes[i].Key, err))
		}
		return out, nil
	})
	if err != nil {
		return err
	}
	return b.run(put + t.entity)
}

// inOrder returns the changes in the order of the index. The fold has them so already.
func inOrder(changes []fold.Change) []fold.Change {
	byKey := func(a, b fold.Change) int { return strings.Compare(a.Key, b.Key) }
	if slices.IsSortedFunc(changes, byKey) {
		return changes
	}
	changes = slices.Clone(changes)
	slices.SortFunc(changes, byKey)
	return changes
}

// advance are the parameters of the guard.
func (w *Warehouse) advance(v *view, c *fold.Commit) [][]byte {
	n := func(x int64) []byte { return strconv.AppendInt(nil, x, 10) }
	return [][]byte{
		[]byte(c.Topic), n(int64(c.Partition)), n(c.Epoch), n(c.From), n(c.Next), n(v.generation), n(w.partitionLock(c.TopicPartition)), n(w.space.barrier()),
	}
}

// quarantine are the parameters of the statement that marks keys; a key that is marked keeps the offset that began it.
func quarantine(c *fold.Commit) [][]byte {
	keys := slices.Sorted(maps.Keys(c.Quarantine))
	offsets := be.AppendUint32(be.AppendUint32(be.AppendUint32(nil, 1), 0), 20)
	offsets = be.AppendUint32(be.AppendUint32(offsets, uint32(len(keys))), 1)
	for _, k := range keys {
		offsets = appendLong(offsets, c.Quarantine[k])
	}
	return [][]byte{[]byte(c.Topic), be.AppendUint32(nil, uint32(c.Partition)), textArray(keys), offsets}
}

// textArray is a text[] in its binary form.
func textArray(items []string) []byte {
	size := 20
	for _, s := range items {
		size += 4 + len(s)
	}
	b := make([]byte, 0, size)
	if len(items) == 0 {
		return be.AppendUint32(be.AppendUint32(be.AppendUint32(b, 0), 0), 25)
	}
	b = be.AppendUint32(be.AppendUint32(be.AppendUint32(b, 1), 0), 25)
	b = be.AppendUint32(be.AppendUint32(b, uint32(len(items))), 1)
	for _, s := range items {
		b = appendText(b, s)
	}
	return b
}

// partitionLock is the lock that a commit holds while it is at work, so that a claim can tell who that is.
func (w *Warehouse) partitionLock(tp consumers.TopicPartition) int64 {
	return w.space.lockID(tp.Topic, tp.Partition)
}

// point writes what there is, and lets a test stop the commit there.
func (w *Warehouse) point(b *burst, name string) error {
	if w.hook == nil {
		return nil
	}
	if err := b.write(); err != nil {
		return err
	}
	return w.hook(name)
}

// at lets a test stop a commit at a point.
func (w *Warehouse) at(name string) error {
	if w.hook == nil {
		return nil
	}
	return w.hook(name)
}
