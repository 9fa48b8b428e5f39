package relay

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/outbox/store"
)

// vanished looks whether rows that were committed and not published are gone: somebody deleted them, or truncated their leaf, before
// any window held them. The newest row of each leaf stands for all of the leaf.
//
// The order is what makes it certain: a row that is gone, and that the cursor read afterwards does not count, was not published when it
// went, for retention takes what that same cursor counts. A leader that lost its lock meanwhile says nothing: another may have published
// the row.
func (w *watcher) vanished(ctx context.Context) error {
	gone, err := store.Gone(ctx, w.conn, w.r.cfg.Schema, w.seen)
	if err != nil {
		return err
	}
	c := w.r.status.knownCursor()
	if c == nil || w.holds() != nil {
		w.seen = nil
		return nil
	}
	for _, row := range gone {
		if !c.counts(row) {
			return fmt.Errorf("row %d was committed and not published, and is not in the outbox any more; others may have gone with it: %w",
				row.ID, store.ErrVanished)
		}
	}
	w.seen, err = store.Newest(ctx, w.conn, w.r.cfg.Schema)
	return err
}

// counts says that a row was published, or parked.
func (c *cursor) counts(row store.Sighting) bool {
	return c.Last.Sees(row.Xid) || c.inWindow() && c.Upper.Sees(row.Xid) && row.ID <= c.Position
}
