package store

import "fmt"

// Window is what became visible between two snapshots: the events to publish before `last` may become Upper.
//
// A window is read page by page, by id. The cursor is {Last, Upper, position}: a restart opens the identical window
// again with Reader.Reopen and goes on after the position, the id of the last event it committed.
//
// The flush gate: until Reader.Flushed has returned true for the window, nothing of it is committed (at-least-once:
// nothing of it is sent), and `last` does not move, not even in memory. A crash of Postgres forgets transactions
// whose end was not flushed, and gives their ids to others: a `last` that saw them would hide the others' events for
// ever. Advance holds the second half of this; the first half is the caller's.
type Window struct {
	// Last is the snapshot the previous window ended with; the zero Snapshot stands before the first event.
	Last Snapshot
	// Upper is the snapshot this window ends with, taken in the statement that read the first page.
	Upper Snapshot
	// FlushLSN is the WAL insert position, read after Upper was taken: the gate opens when Postgres has flushed up to
	// it.
	FlushLSN uint64
	// Source is what the database said of itself in the statement that opened the window. Compare it with the
	// cursor's (Check) before anything is committed; keep it in the cursor when the window is.
	Source Source

	live    liveLeaves
	flushed bool
	bounded bool      // the following are known
	lowest  int64     // the lowest and
	highest int64     // the highest id of the fresh rows
	late    []lateXid // late transactions that left rows
	end     int64     // the highest id of the window; 0 if it is empty
}

// lateXid is a transaction that was running in Last, had completed in Upper, and left rows in the outbox.
type lateXid struct {
	xid     uint64
	highest int64
}

// newWindow checks that the database has come as far as the snapshots.
func newWindow(last, upper Snapshot, h head) (*Window, error) {
	if err := Check(Source{}, h.source); err != nil {
		return nil, err
	}
	if upper.Xmax < last.Xmax || h.upper.Xmax < upper.Xmax {
		cursor := h.source
		cursor.Xmax = max(last.Xmax, upper.Xmax)
		return nil, Check(cursor, h.source)
	}
	return &Window{
		Last: last, Upper: upper, FlushLSN: h.source.LSN, Source: h.source,
		flushed: h.flushed >= h.source.LSN,
	}, nil
}

// Advance returns the snapshot that is to be the next `last`. It is ErrNotFlushed until Reader.Flushed has returned
// true for the window. The caller must have published the window to its end.
func (w *Window) Advance() (Snapshot, error) {
	if !w.flushed {
		return Snapshot{}, fmt.Errorf("advance to %s: %w", w.Upper, ErrNotFlushed)
	}
	return w.Upper, nil
}

// widen takes in where rows lie: fresh ones, or those of a late transaction.
func (w *Window) widen(late *uint64, lowest, highest int64) {
	w.end = max(w.end, highest)
	if late == nil {
		w.lowest, w.highest = lowest, highest
		return
	}
	w.late = append(w.late, lateXid{*late, highest})
}

// lateAfter returns the late transactions that have rows with ids above after.
func (w *Window) lateAfter(after int64) []uint64 {
	var list []uint64
	for _, l := range w.late {
		if l.highest > after {
			list = append(list, l.xid)
		}
	}
	return list
}
