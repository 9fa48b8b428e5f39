package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// LeafCount is how many leaves the ring of the event table has. The leaf of an id is its upper half modulo LeafCount.
const LeafCount = 8

// LeafOf is the number of the leaf that an id belongs into.
func LeafOf(id int64) int { return int(id >> 32 & (LeafCount - 1)) }

// leafFilter limits a statement to eight leaves, which are given from parameter $n on; an executor that knows them
// before it starts opens no other. The first is the one that most rows are in: the rest is then not looked at.
func leafFilter(n int) string {
	terms := make([]string, LeafCount)
	for i := range terms {
		terms[i] = fmt.Sprintf("((e.id >> 32) & 7) = $%d::bigint", n+i)
	}
	return "(" + strings.Join(terms, " or ") + ")"
}

// leavesQuery reads the ring, and how far the sequence is if the role may know that.
const leavesQuery = `
select r.generation, r.epoch, array(select coalesce(l.left_xid::text, '') from {{schema}}.leaf l order by l.leaf), s.oid,
	case when has_sequence_privilege(s.oid, 'usage, select') then coalesce(pg_sequence_last_value(s.oid::regclass), 0) else -1 end
from {{schema}}.ring r, pg_get_serial_sequence($1, 'id') sequence_name, lateral (select sequence_name::regclass::oid as oid) s
where r.singleton`

// leaves knows which leaves of the ring polls may leave out: those that the sequence has left and whose rows are all
// published.
//
// Whoever has an id of a leaf has a transaction id below the left_xid of that leaf. So when last.xmin has reached it,
// every transaction that can have rows there had ended when `last` was taken, and what it left is published. That a
// leaf is empty proves nothing: an INSERT may have drawn its id and still wait, behind a TRUNCATE for example.
//
// What was read once stays right until the sequence comes round to a leaf that is left out. It is never more than one
// generation past the one written down in the ring, unless it went there by itself; hence the leaf after the current
// one is always looked at, the epoch, which counts what is written down, is read in each poll, and so is the sequence.
// A poll that finds either moved is thrown away.
type leaves struct {
	known      bool
	stale      bool // another epoch was seen
	adrift     bool // the sequence is where nobody has written it down, or the role may not know
	generation int64
	epoch      int64
	left       [LeafCount]uint64 // left_xid; 0 for none
	sequence   uint32
}

// liveLeaves are those that a window's rows can lie in.
type liveLeaves struct {
	list     []int64
	sequence uint32 // to be asked how far it is; 0 if no leaf is left out
}

// live returns the leaves that can hold rows which last does not see, the newest first.
func (l *leaves) live(last Snapshot) liveLeaves {
	var out liveLeaves
	for back := int64(0); back < LeafCount; back++ {
		leaf := (l.generation - back) & (LeafCount - 1)
		out.list = append(out.list, leaf)
		if l.known && !l.adrift && back > 0 && back < LeafCount-1 && l.left[leaf] != 0 && l.left[leaf] <= last.Xmin {
			out.list = out.list[:len(out.list)-1]
			out.sequence = l.sequence
		}
	}
	return out
}

// args are the leaves as leafFilter wants them: as many as there are parameters.
func (l liveLeaves) args() []any {
	args := make([]any, LeafCount)
	for i := range args {
		args[i] = l.list[min(i, len(l.list)-1)]
	}
	return args
}

// confirm says whether a poll that looked at the live leaves only has seen everything.
func (l *leaves) confirm(live liveLeaves, h head) bool {
	l.stale = !l.known || h.epoch != l.epoch
	if live.sequence == 0 {
		return true
	}
	l.adrift = h.drawn>>32 > l.generation+1
	return !l.stale && !l.adrift
}

// loadLeaves reads the ring anew.
func (r *Reader) loadLeaves(ctx context.Context) error {
	var drawn int64
	var left []string
	l := leaves{known: true}
	err := r.conn.QueryRow(ctx, r.queries.leaves, r.queries.event).Scan(&l.generation, &l.epoch, &left, &l.sequence, &drawn)
	if err != nil {
		return fmt.Errorf("read which leaves of the ring are in use: %w", err)
	}
	if len(left) != LeafCount {
		return fmt.Errorf("the ring has %d leaves, want %d", len(left), LeafCount)
	}
	for i, text := range left {
		if text == "" {
			continue
		}
		if l.left[i], err = strconv.ParseUint(text, 10, 64); err != nil {
			return fmt.Errorf("leaf %d of the ring: %q is not a transaction id", i, text)
		}
	}
	l.adrift = drawn < 0 || drawn>>32 > l.generation+1
	r.leaves = l
	return nil
}

// openLive asks openQuery about the leaves that can hold something new.
func (r *Reader) openLive(ctx context.Context, last Snapshot, limit int) (head, Page, liveLeaves, error) {
	for {
		if r.leaves.stale {
			if err := r.loadLeaves(ctx); err != nil {
				return head{}, Page{}, liveLeaves{}, err
			}
		}
		live := r.leaves.live(last)
		args := append([]any{last.Xmax, xids(last.Xip), limit + 1, r.options.pageBytes}, live.args()...)
		rows, err := r.query(ctx, r.queries.open, append(args, live.sequence)...)
		if err != nil {
			return head{}, Page{}, liveLeaves{}, err
		}
		h, page, err := r.readOpen(rows)
		if err != nil {
			return head{}, Page{}, liveLeaves{}, err
		}
		if r.leaves.confirm(live, h) {
			return h, page, live, nil
		}
		page.Release()
	}
}
