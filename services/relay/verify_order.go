package relay

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
)

// maxOrdered is how many events the order is looked at of, about: 40 bytes each. Of more, it is looked at for a share of the keys.
const maxOrdered = 1 << 20

// orderSums hold where rows stand within their keys. Rows are taken first, then records.
type orderSums struct {
	sample, turn uint64
	all          []ordered
	sorted       bool
}

// ordered is an event, by hashes.
type ordered struct {
	event, key uint64
	row        int64
	xid        uint64
	seq        int64 // of the first record; 0 for none
}

func newOrderSums(rows int64, turn uint64) *orderSums {
	return &orderSums{sample: uint64(max(0, rows-1))/maxOrdered + 1, turn: turn}
}

func (o *orderSums) row(e *store.Event) {
	if o.sample > 1 && stableHash([]byte(e.Key))>>20%o.sample != o.turn%o.sample { // other bits than those of the sample of keys
		return
	}
	o.all = append(o.all, ordered{event: hashOf(e.EventID), key: maphash.String(seedB, e.Topic+"\x00"+e.Key), row: e.ID, xid: e.Xid})
}

func (o *orderSums) record(id uuid.UUID, seq int64) {
	if !o.sorted {
		slices.SortFunc(o.all, func(a, b ordered) int { return cmp.Compare(a.event, b.event) })
		o.sorted = true
	}
	i, there := slices.BinarySearchFunc(o.all, hashOf(id), func(e ordered, h uint64) int { return cmp.Compare(e.event, h) })
	if there && o.all[i].seq == 0 {
		o.all[i].seq = seq
	}
}

// judgeOrder finds events that came behind one of their key with a higher id.
//
// Promise 2: within a transaction ids are the order. Between two transactions they are if the key's writers serialise, which nobody can
// tell from the rows.
func (v *verification) judgeOrder(ctx context.Context) error {
	if v.order == nil {
		return nil
	}
	all := v.order.all
	slices.SortFunc(all, func(a, b ordered) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.row, b.row)) })
	var low *ordered // of those of the key with higher ids, the one that came first
	for i := len(all) - 1; i >= 0; i-- {
		e := &all[i]
		if e.seq == 0 {
			continue
		}
		if low == nil || low.key != e.key || e.seq < low.seq {
			low = e
			continue
		}
		if err := v.inverted(ctx, e, overtaker(all[i+1:], e, low)); err != nil {
			return err
		}
	}
	return nil
}

// overtaker is what came before an event although its id is higher: one of the same transaction if there is one among the next rows.
func overtaker(next []ordered, e, low *ordered) *ordered {
	for j := range next[:min(len(next), 64)] {
		if n := &next[j]; n.key == e.key && n.xid == e.xid && n.seq > 0 && n.seq < e.seq {
			return n
		}
	}
	return low
}

// inverted tells of two events of a key: the one with the lower id has the higher version.
func (v *verification) inverted(ctx context.Context, early, late *ordered) error {
	same := early.xid == late.xid
	named := len(v.out.OvertakenEvents) < v.opts.Examples
	if same {
		named = v.out.Kinds[Reordered] < int64(v.opts.Examples)
	} else {
		v.out.Overtaken++
	}
	d := DifferentEvent{Kind: Reordered, Row: early.row, Xid: early.xid, Seq: early.seq}
	if named {
		var rows store.Selected
		rows.Published = store.PublishedRows{Last: v.cursor.Last, Upper: v.cursor.Upper, Position: v.cursor.Position}
		page, _, err := store.ReadRetained(ctx, v.conn, v.cfg.Schema, rows, early.row, early.row, 1, verifyBytes)
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			d.Topic, d.Key, d.EventID, d.Since = e.Topic, lineKey(e.Key), e.EventID, e.OccurredAt
		}
		page.Release()
	}
	d.Detail = fmt.Sprintf("version %d, and row %d, which has a higher id, of transaction %d, has version %d", early.seq, late.row, late.xid, late.seq)
	switch {
	case same:
		v.differs(d)
	case named:
		v.out.OvertakenEvents = append(v.out.OvertakenEvents, d)
	}
	return nil
}
