package relay

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/outbox/store"
)

// verify looks in the table for signs that its history is not the one that the cursor was taken from, although the database has come as
// far by now.
func (c *cursor) verify(ctx context.Context, reader *store.Reader) error {
	if c.Row > 0 {
		if err := reader.VerifyRow(ctx, c.Row, c.EventID); err != nil {
			return fmt.Errorf("look for the last published row, %d: %w", c.Row, err)
		}
		if c.Highest == 0 || c.Xid == 0 {
			return nil // of a relay that did not write it down, or of re-anchoring: nothing says where to begin to look
		}
	}
	return reader.CheckHistory(ctx, store.History{Source: c.Source, Last: c.Last, Upper: c.Upper, Xid: c.Xid, Highest: c.Highest})
}

// learn fills in what an earlier relay did not write down: what is there now passes for published.
func (c *cursor) learn(ctx context.Context, reader *store.Reader) error {
	if c.Row == 0 || c.Highest > 0 {
		return nil
	}
	highest, err := reader.HighestID(ctx)
	c.Highest = max(highest, c.Row, c.Position)
	return err
}
