package relay

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
)

const (
	// watchEvery is how often the backlog is looked up in the table, watchTimeout how long that may take.
	watchEvery   = 5 * time.Second
	watchTimeout = 4 * time.Second
)

// watcher counts what is not published yet, from the table and not from what the loop believes, on its own connection.
type watcher struct {
	r    *Relay
	conn *pgx.Conn
	end  context.CancelFunc
	done sync.WaitGroup
}

// watch starts a watcher; stop ends it and waits.
func (r *Relay) watch(ctx context.Context) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{r: r, end: cancel}
	w.done.Go(func() {
		for {
			w.look(ctx)
			if sleep(ctx, watchEvery) != nil {
				return
			}
		}
	})
	return w
}

func (w *watcher) stop() {
	w.end()
	w.done.Wait()
	if w.conn != nil {
		closeConn(w.conn)
	}
}

// look measures once. When it cannot, the last measurement stands: Status tells how old it is, and what is wrong with
// Postgres is told by the loop.
func (w *watcher) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	c := w.r.status.committedCursor()
	if c == nil {
		return
	}
	if w.conn == nil {
		var err error
		if w.conn, err = w.r.connect(ctx, "watch"); err != nil {
			w.r.cfg.Logger.Debug("backlog not measured", "err", err)
			return
		}
	}
	last, upper := &c.Last, &c.Upper
	if !c.inWindow() {
		upper = nil
	}
	events, oldest, err := store.Backlog(ctx, w.conn, w.r.cfg.Schema, last, upper, c.Position)
	if err != nil {
		w.r.cfg.Logger.Debug("backlog not measured", "err", err)
		closeConn(w.conn)
		w.conn = nil
		return
	}
	w.r.status.measured(events, oldest)
}
