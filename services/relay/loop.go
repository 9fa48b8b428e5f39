package relay

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

// source is where pages come from. *store.Reader is the one on Postgres.
type source interface {
	Open(ctx context.Context, last store.Snapshot, limit int) (*store.Window, store.Page, error)
	Reopen(ctx context.Context, last, upper store.Snapshot) (*store.Window, error)
	Page(ctx context.Context, w *store.Window, after int64, limit int) (store.Page, error)
	Flushed(ctx context.Context, w *store.Window) (bool, error)
	ForceFlush(ctx context.Context) error
	Schema(ctx context.Context, fp schemas.Fingerprint) (*schemas.Schema, error)
}

var _ source = (*store.Reader)(nil)

// reporter is told what has been committed.
type reporter interface{ committed(done *commit) }

// operator carries out, between two transactions, what a person asked for. It may read the loop's cursor and call its await and
// publish. busy says that it did something, hold that no page may follow now.
type operator interface {
	operate(ctx, work context.Context, l *loop) (busy, hold bool, err error)
}

// loop polls, frames, publishes and commits. It is a state machine over its interfaces and has no connection of its own.
//
//	page t            read, framed        while t-1 is on its way and t-2 commits
//	records of t      on their way        once every record of t-1 is acknowledged
//	flush gate        Postgres has flushed what t's window contains
//	commit of t-1     known, and good     else nothing of t is committed
//	commit of t       begins              while t+1 is framed
//
// The stages are in loop.go, flight.go, flush.go and commit.go.
type loop struct {
	cfg       Config
	source    source
	publisher publisher
	// intender is set when what is published cannot be taken back.
	intender intender
	// together is how many pages a transaction takes in a backlog; 0 is 1.
	together int
	framer   *framer
	report   reporter
	point    func(string)
	// operator is nil where nobody can ask for anything.
	operator operator
	// well is called when something has been proved to work: a commit, or a poll that found nothing.
	well func()
	now  func() time.Time

	// cursor is the last transaction's, on its way, being committed or committed, moved on over empty windows.
	cursor *cursor
	// window is the one being read; nil between windows.
	window *window
	// flight is the transaction whose records are on their way; nil if all are acknowledged.
	flight *flight
	// pending is the commit under way.
	pending *commit
	// broken says that a transaction was lost on its way.
	broken bool
	idle   time.Duration // next pause
	opened time.Time     // when the last window was
	filled int           // events of that window so far
	rate   float64       // events a second, lately
}

// window is a window of the source.
type window struct {
	*store.Window
	flushed bool // it has passed the flush gate
}

// run polls until ctx ends or something goes wrong. work is the context of what must be finished once begun; it outlives
// ctx by a while. run returns with nothing on its way and no commit under way.
func (l *loop) run(ctx, work context.Context) error {
	err := l.poll(ctx, work)
	if unknown := l.await(); err == nil {
		err = unknown
	}
	return err
}

func (l *loop) poll(ctx, work context.Context) error {
	for ctx.Err() == nil {
		busy, err := l.turn(ctx, work)
		if err != nil {
			if ctx.Err() != nil && work.Err() == nil && !l.broken {
				return nil // it was the reading that ctx ended
			}
			return err
		}
		if busy {
			l.idle = l.cfg.PollMin
			if err := l.space(ctx); err != nil {
				return err
			}
			continue
		}
		if err := l.land(); err != nil {
			return err
		}
		if l.pending == nil {
			l.well()
		}
		if err := l.rest(ctx); err != nil {
			return err
		}
	}
	return nil
}

// turn does what was asked for, then reads and publishes one page. It says whether there was anything to do.
func (l *loop) turn(ctx, work context.Context) (busy bool, err error) {
	asked, hold := false, false
	if l.operator != nil && (l.cursor.Intent == nil || l.cursor.Intent.Rows == 0) { // a page that was announced comes first
		if asked, hold, err = l.operator.operate(ctx, work, l); err != nil || hold {
			return asked, err
		}
	}
	busy, err = l.step(ctx, work)
	return busy || asked, err
}

// How far transactions move apart: Config.Spacing up to calmRate events a second, once more for each spacingRate above, up to
// spacingMost times.
const (
	calmRate    = 2500
	spacingRate = 500
	spacingMost = 20
	// rateOver is the time over which the rate is taken: a burst is not a busy outbox.
	rateOver = 250 * time.Millisecond
)

// space waits until the next window may be opened. In a backlog it does not.
func (l *loop) space(ctx context.Context) error {
	left := l.spacing() - l.now().Sub(l.opened)
	if l.cursor.inWindow() || left <= 0 {
		return nil
	}
	if err := l.land(); err != nil {
		return err
	}
	_ = sleep(ctx, left)
	return nil
}

// spacing is the shortest time from the opening of one window to that of the next.
func (l *loop) spacing() time.Duration {
	times := min(max(1+(l.rate-calmRate)/spacingRate, 1), spacingMost)
	return time.Duration(times * float64(l.cfg.Spacing))
}

// meter takes the events of the last window into the rate. now is when the next one is opened.
func (l *loop) meter(now time.Time) {
	if took := now.Sub(l.opened); !l.opened.IsZero() && took > 0 {
		part := 1 - math.Exp(-float64(took)/float64(rateOver))
		l.rate += part * (float64(l.filled)/took.Seconds() - l.rate)
	}
	l.opened, l.filled = now, 0
}

// rest pauses between polls, longer each time, and looks at the commit under way.
func (l *loop) rest(ctx context.Context) error {
	timer := time.NewTimer(l.idle)
	defer timer.Stop()
	l.idle = min(2*l.idle, l.cfg.PollMax)
	var committed chan struct{}
	if l.pending != nil {
		committed = l.pending.known
	}
	for {
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		case <-committed:
			if err := l.known(); err != nil {
				return err
			}
			committed = nil
		}
	}
}

// step reads and publishes one page. It says whether there was one.
func (l *loop) step(ctx, work context.Context) (busy bool, err error) {
	if l.framer.halt != nil {
		return false, l.framer.halt
	}
	began := l.now()
	page, err := l.next(ctx)
	if err != nil {
		return false, err
	}
	if page, err = l.cut(page); err != nil {
		return false, err
	}
	next := l.cursor.clone()
	next.Source = l.window.Source
	last, some := page.LastID()
	if page.More {
		next.Upper, next.Position = l.window.Upper, last
	} else {
		next.Last, next.Upper, next.Position = l.window.Upper, store.Snapshot{}, 0
	}
	if !some {
		return false, l.pass(ctx, work, next)
	}
	l.filled += len(page.Events)
	batch, err := l.framer.frame(ctx, page.Events, next)
	if err != nil {
		return false, err
	}
	page.Release()
	if l.framer.halt != nil {
		next.Last, next.Upper, next.Position = l.cursor.Last, l.window.Upper, next.Row
	}
	return true, l.publish(work, next, batch, began)
}

// next returns the next page of the window at hand, or of the one the cursor stands in, or of a new one.
func (l *loop) next(ctx context.Context) (store.Page, error) {
	if l.window != nil {
		return l.page(ctx)
	}
	if l.cursor.inWindow() {
		w, err := l.source.Reopen(ctx, l.cursor.Last, l.cursor.Upper)
		if err != nil {
			return store.Page{}, fmt.Errorf("open the window (%s, %s] again: %w", l.cursor.Last, l.cursor.Upper, err)
		}
		if err := l.begin(w); err != nil {
			return store.Page{}, err
		}
		return l.page(ctx)
	}
	// The later a window is opened the more it holds: what is committed while the last transaction is on its way need not
	// wait for the one after the next.
	if err := l.land(); err != nil {
		return store.Page{}, err
	}
	l.meter(l.now())
	w, page, err := l.source.Open(ctx, l.cursor.Last, l.cfg.PageSize)
	if err != nil {
		return store.Page{}, fmt.Errorf("open a window after %s: %w", l.cursor.Last, err)
	}
	return page, l.begin(w)
}

func (l *loop) page(ctx context.Context) (store.Page, error) {
	page, err := l.source.Page(ctx, l.window.Window, l.cursor.Position, l.cfg.PageSize)
	if err != nil {
		return page, fmt.Errorf("read rows after %d up to %s: %w", l.cursor.Position, l.window.Upper, err)
	}
	return page, nil
}

// begin takes a window after making sure that it is one of the same database, not restored, not failed over.
func (l *loop) begin(w *store.Window) error {
	if err := store.Check(l.cursor.Source, w.Source); err != nil {
		return err
	}
	l.window = &window{Window: w}
	return nil
}

// pass goes on after a window that held no (more) events. No transaction is written for it, but for one now and then, so
// that a restart does not have to look at everything since.
func (l *loop) pass(ctx, work context.Context, next *cursor) error {
	w := l.window
	l.window = nil
	if w.Upper.Equal(l.cursor.Last) {
		return nil
	}
	// Promise 1: what Postgres has not flushed can vanish in a crash and its xids be given to others; until then the
	// cursor does not move over it, not even in memory.
	if flushed, err := l.source.Flushed(ctx, w.Window); err != nil || !flushed {
		return wrap(err, "ask Postgres how far it has flushed")
	}
	due := l.now().Sub(l.cursor.Time) >= l.cfg.CursorInterval
	if !due {
		l.cursor = next
		return nil
	}
	l.window, w.flushed = w, true
	return l.publish(work, next, newBatch(0), l.now())
}

// wrap returns nil for nil.
func wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
