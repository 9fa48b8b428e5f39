package relay

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/outbox/store"
)

// flushTries is how often the flush is forced before the window is given up. One does, unless Postgres is in trouble.
const flushTries = 3

// gate returns when Postgres has flushed everything a window contains.
//
// Promise 1: an event of a transaction that a crash of Postgres can still undo is not committed to Kafka.
// Forcing waits for the disk of Postgres, however long that takes, and is given up after PublishTimeout.
func (l *loop) gate(ctx context.Context, w *window) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.PublishTimeout)
	defer cancel()
	if w == nil {
		return nil // what is published now was parked behind a gate that was open, and the cursor keeps its snapshots
	}
	for try := 0; !w.flushed; try++ {
		flushed, err := l.source.Flushed(ctx, w.Window)
		if err != nil {
			return wrap(err, "ask Postgres how far it has flushed")
		}
		if w.flushed = flushed; flushed {
			return nil
		}
		if try == flushTries {
			return fmt.Errorf("the write-ahead log of Postgres is not flushed up to %s, however often that is asked for", store.FormatLSN(w.FlushLSN))
		}
		if err := l.source.ForceFlush(ctx); err != nil {
			return wrap(err, "make Postgres flush its log")
		}
	}
	return nil
}
