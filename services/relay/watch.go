package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
)

// watchEvery is how often the backlog is looked up in the table. Tests look more often.
var watchEvery = 5 * time.Second

const (
	// watchTimeout is how long that may take.
	watchTimeout = 4 * time.Second
	// watchSoon is how often it is tried until it is known where the relay stands.
	watchSoon = 500 * time.Millisecond
	// lockPatience is how long a session of the relay may wait for a lock before that is told.
	lockPatience = 2 * time.Second
)

// watcher counts what is not published yet, from the table and not from what the loop believes, on its own connection. It
// watches for as long as this relay is the leader, whether it can publish or not: a backlog that grows while Kafka is away
// is what an operator must see.
type watcher struct {
	r        *Relay
	conn     *pgx.Conn
	inFlight inFlight
	// seen are rows that the last look saw; see vanished. holds says whether the lock is held.
	seen  []store.Sighting
	holds func() error
	// fail ends the leadership's work with what an operator must hear.
	fail context.CancelCauseFunc
	end  context.CancelFunc
	done sync.WaitGroup
}

// watch starts a watcher; stop ends it and waits. fail is called when it finds what an operator must hear.
func (r *Relay) watch(ctx context.Context, fail context.CancelCauseFunc) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{r: r, end: cancel, holds: r.holds, fail: fail}
	w.done.Go(func() {
		for {
			pause := watchSoon
			if w.look(ctx) {
				pause = watchEvery
			}
			if sleep(ctx, pause) != nil {
				return
			}
		}
	})
	return w
}

func (w *watcher) stop() {
	w.end()
	w.done.Wait()
	w.disconnect()
}

func (w *watcher) disconnect() {
	if w.conn != nil {
		closeConn(w.conn)
		w.conn = nil
		w.seen = nil // the next one may lead to a database that was restored, which is told in other words
	}
}

// look measures once and says whether there is a next time to wait for. When it cannot, the last measurement stands: Status tells how
// old it is, and what is wrong with Postgres is told by the loop.
func (w *watcher) look(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	known, err := w.measure(ctx)
	if mustStop(err) {
		w.fail(err)
	}
	if err != nil {
		w.r.cfg.Logger.Debug("backlog not measured", "err", err)
		w.disconnect()
	}
	return known || err != nil
}

func (w *watcher) measure(ctx context.Context) (known bool, err error) {
	if w.conn == nil {
		if w.conn, err = w.r.connect(ctx, "watch"); err != nil {
			return false, err
		}
	}
	if err := w.blocked(ctx); err != nil {
		return false, err
	}
	running, err := store.LookInFlight(ctx, w.conn)
	if err != nil {
		return false, err
	}
	w.r.status.metrics.table.inFlight.Set(w.inFlight.oldest(running, w.r.status.now()).Seconds())
	c, known, err := w.stands(ctx)
	if err != nil || !known {
		return false, err
	}
	if err := w.vanished(ctx); err != nil {
		return false, err
	}
	last, upper := &c.Last, &c.Upper
	if !c.inWindow() {
		upper = nil
	}
	events, oldest, err := store.Backlog(ctx, w.conn, w.r.cfg.Schema, last, upper, c.Position)
	if err != nil {
		return false, err
	}
	w.r.status.measured(events, oldest)
	return true, nil
}

// blocked tells whom the relay waits for behind a lock, at its start as later on: a stranger's DDL or LOCK TABLE on the outbox. It reads
// no table itself.
func (w *watcher) blocked(ctx context.Context) error {
	b, err := store.LookBlocked(ctx, w.conn, w.r.application(), lockPatience)
	if err != nil {
		return err
	}
	if b == nil {
		w.r.trouble.report("lock")(nil)
		return nil
	}
	w.r.trouble.report("lock")(errors.New(b.String()))
	return nil
}

// stands returns the cursor that this relay committed or read last. Before it has read one, it is known only of an outbox
// that was never published: that stands before the first event.
func (w *watcher) stands(ctx context.Context) (c *cursor, known bool, err error) {
	if c := w.r.status.knownCursor(); c != nil {
		return c, true, nil
	}
	_, started, err := store.Started(ctx, w.conn, w.r.cfg.Schema)
	if err != nil || started {
		return nil, false, err
	}
	return &cursor{}, true, nil
}
