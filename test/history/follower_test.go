package history_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/test/history"
)

// cursor is what a relay keeps in Kafka: text and numbers, nothing that points into a process.
type cursor struct {
	last, upper string // upper is empty between windows
	position    int64
	source      store.Source
}

// relay is a relay without Kafka: it publishes into a ledger and keeps its cursor beside it, page by page.
type relay struct {
	dsn    string
	ledger *history.Ledger
	rng    *rand.Rand
	limit  func() int // events a page
	// restarts is how many pages of a hundred end with the loss of everything but the cursor: half of these pages are
	// lost unpublished.
	restarts int
	// beforeGate is called when a page has been read, before the flush gate is asked.
	beforeGate func()

	cursor  cursor
	reader  *store.Reader
	conn    *pgx.Conn
	window  *store.Window
	started int // how many times a reader was made
	resumed int // how many windows were opened again
	windows int // how many windows of more than one page were read to their end
}

// poll publishes one window to its end, or what a restart leaves of it.
func (f *relay) poll(ctx context.Context) (int, error) {
	n, err := f.work(ctx)
	if err != nil {
		f.crash()
	}
	return n, err
}

// crash forgets all but the cursor.
func (f *relay) crash() {
	if f.conn != nil {
		f.conn.Close(context.Background())
	}
	f.conn, f.reader, f.window = nil, nil, nil
}

func (f *relay) work(ctx context.Context) (n int, err error) {
	if f.reader == nil {
		if err := f.start(ctx); err != nil {
			return 0, err
		}
	}
	page, err := f.first(ctx)
	if err != nil {
		return 0, err
	}
	for pages := 1; ; pages++ {
		flushed, err := f.gate(ctx, len(page.Events) > 0)
		if err != nil {
			return n, err
		}
		if !flushed {
			f.window = nil // nothing moves; the next poll looks again
			return n, nil
		}
		lose := f.rng.IntN(100) < f.restarts
		if lose && f.rng.IntN(2) == 0 {
			f.crash()
			return n, nil
		}
		if err := f.commit(page); err != nil {
			return n, err
		}
		n += len(page.Events)
		if !page.More {
			if pages > 1 {
				f.windows++
			}
			return n, f.advance()
		}
		page.Release()
		if lose {
			f.crash()
			return n, nil
		}
		if page, err = f.reader.Page(ctx, f.window, f.cursor.position, f.limit()); err != nil {
			return n, err
		}
	}
}

func (f *relay) start(ctx context.Context) (err error) {
	if f.conn, err = pgx.Connect(ctx, f.dsn); err != nil {
		return err
	}
	f.reader, err = store.NewReader(ctx, f.conn, "outbox")
	f.started++
	return err
}

// first opens a window, or the cursor's again, and reads the page after the position.
func (f *relay) first(ctx context.Context) (page store.Page, err error) {
	var last, upper store.Snapshot
	if f.cursor.last != "" {
		if last, err = store.ParseSnapshot(f.cursor.last); err != nil {
			return page, err
		}
	}
	if f.cursor.upper == "" {
		f.window, page, err = f.reader.Open(ctx, last, f.limit())
	} else {
		f.resumed++
		if upper, err = store.ParseSnapshot(f.cursor.upper); err != nil {
			return page, err
		}
		if f.window, err = f.reader.Reopen(ctx, last, upper); err != nil {
			return page, err
		}
		page, err = f.reader.Page(ctx, f.window, f.cursor.position, f.limit())
	}
	if err != nil {
		return page, err
	}
	return page, store.Check(f.cursor.source, f.window.Source)
}

// gate asks whether the window may be committed, and makes Postgres flush if there is something to commit.
func (f *relay) gate(ctx context.Context, something bool) (bool, error) {
	if f.beforeGate != nil {
		f.beforeGate()
	}
	flushed, err := f.reader.Flushed(ctx, f.window)
	if err != nil || flushed || !something {
		return flushed, err
	}
	if err := f.reader.ForceFlush(ctx); err != nil {
		return false, err
	}
	return f.reader.Flushed(ctx, f.window)
}

// commit publishes a page together with the cursor.
func (f *relay) commit(page store.Page) error {
	after := f.cursor.position
	for _, e := range page.Events {
		if e.ID <= after {
			return fmt.Errorf("page is not strictly by id: %d after %d", e.ID, after)
		}
		after = e.ID
		f.ledger.Add(history.Seen{EventID: e.EventID, Key: e.Key, N: int64(binary.BigEndian.Uint64(e.Payload))})
	}
	f.cursor.position, f.cursor.upper, f.cursor.source = after, f.window.Upper.String(), f.window.Source
	return nil
}

func (f *relay) advance() error {
	last, err := f.window.Advance()
	if err != nil {
		return err
	}
	f.cursor = cursor{last: last.String(), source: f.window.Source}
	f.window = nil
	return nil
}
