package store

// Window is what became visible between two snapshots: the events to publish before `last` may become Upper.
//
// A window is read page by page, by id. The cursor is {Last, Upper, position}: a restart opens the identical window
// again with Reader.Reopen and goes on after the position.
//
// The flush gate: until Reader.Flushed has returned true for the window, nothing of it is committed (at-least-once:
// nothing of it is sent), and `last` does not move, not even in memory. A crash of Postgres forgets transactions that
// were not flushed and gives their ids to others. Window.Advance holds the second half of this.
type Window struct {
	// Last is the snapshot the previous window ended with; the zero Snapshot stands before the first event.
	Last Snapshot
	// Upper is the snapshot this window ends with, taken in the statement that read the first page.
	Upper Snapshot
	// FlushLSN is the WAL insert position read with or after Upper: nothing commits before Postgres has flushed up to it.
	FlushLSN uint64
	// Source is what the database said of itself in that statement; hand it to Check with the cursor's.
	Source Source

	flushed bool
	late    []lateXid
	lowest  int64
	highest int64
	single  bool // the first page was the whole window
}

// lateXid is a transaction that was running in Last, had completed in Upper, and left rows in the outbox.
type lateXid struct {
	xid             uint64
	lowest, highest int64
}

// Advance returns the snapshot to be the next `last`. It is ErrNotFlushed until Reader.Flushed has returned true for the window.
// The caller must have published the window to its end.
func (w *Window) Advance() (Snapshot, error) {
	if !w.flushed {
		return Snapshot{}, ErrNotFlushed
	}
	return w.Upper, nil
}
