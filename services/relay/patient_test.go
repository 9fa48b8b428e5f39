package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/outbox/store"
)

// silent is a table whose pages do not come.
type silent struct {
	*fakeTable
	pages int // that come
	asked []time.Time
}

func (s *silent) Page(ctx context.Context, w *store.Window, after int64, limit int) (store.Page, error) {
	s.asked = append(s.asked, time.Now())
	if s.pages--; s.pages >= 0 {
		return s.fakeTable.Page(ctx, w, after, limit)
	}
	<-ctx.Done()
	return store.Page{}, fmt.Errorf("read the page: %w", ctx.Err())
}

// silentBench is a loop over a table whose pages stop to come, read ahead as in a session.
func silentBench(pages int, p *patience) (*bench, *silent) {
	b := newBench()
	b.rows("a", "b", "c", "d", "e", "f")
	s := &silent{fakeTable: b.table, pages: pages}
	b.loop.source = &prefetcher{source: &patient{source: s, patience: p}}
	return b, s
}

// Promise 1: a source that says nothing any more ends the session, with the reason; nothing of the page that did not come is taken
// for read.
func TestPromise1ASilentSourceEndsTheSession(t *testing.T) {
	for pages := range 3 {
		synctest.Test(t, func(t *testing.T) {
			b, _ := silentBench(pages, newPatience(time.Minute))
			b.cursor.Upper = store.Snapshot{Xmin: 7, Xmax: 7} // in a window: pages alone are asked for
			began := time.Now()
			err := b.drain()
			if !errors.Is(err, errSilence) || !errors.Is(err, context.DeadlineExceeded) || cause(err) != causeTimeout {
				t.Fatalf("after %d pages: %v, counted as %s", pages, err, cause(err))
			}
			if took := time.Since(began); took != time.Minute+silenceSlack {
				t.Errorf("after %v", took)
			}
			if got := len(b.kafka.keys("t")); got > 2*pages {
				t.Errorf("after %d pages of two rows %d events are published", pages, got)
			}
		})
	}
}

// Whoever asks for something else while a page is read ahead in vain hears why.
func TestWhatWaitsForASilentPageHearsWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := silentBench(1, newPatience(time.Minute))
		w := b.table.window(store.Snapshot{}, store.Snapshot{Xmin: 7, Xmax: 7})
		if _, err := b.source.Page(t.Context(), w, 0, 2); err != nil {
			t.Fatal(err)
		}
		if _, err := b.source.Flushed(t.Context(), w); !errors.Is(err, errSilence) {
			t.Errorf("Flushed: %v", err)
		}
		if err := b.source.ForceFlush(t.Context()); !errors.Is(err, errSilence) {
			t.Errorf("ForceFlush: %v", err)
		}
		if _, err := b.source.Schema(t.Context(), b.table.schema.Fingerprint); !errors.Is(err, errSilence) {
			t.Errorf("Schema: %v", err)
		}
	})
}

// What needs longer than is configured is read in the end, and patience is what it was after that.
func TestPatienceDoublesUntilThePageComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatience(time.Minute)
		ask := func(needs time.Duration) error {
			began := time.Now()
			err := p.within(t.Context(), func(ctx context.Context) error {
				select {
				case <-time.After(needs):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			if err == nil {
				p.answered(time.Since(began))
			}
			return err
		}
		tries := 1
		for ; ask(7*time.Minute) != nil; tries++ {
			if tries > 10 {
				t.Fatal("it never waits long enough")
			}
		}
		if tries != 4 || p.now != 8*time.Minute {
			t.Errorf("%d tries, patience %v", tries, p.now)
		}
		if err := ask(time.Second); err != nil || p.now != time.Minute {
			t.Errorf("%v, patience %v after a poll that took a second", err, p.now)
		}
		for range 20 {
			_ = ask(24 * time.Hour)
		}
		if p.now != patienceCap*time.Minute {
			t.Errorf("patience %v", p.now)
		}
	})
}

// What ends for another reason is told as it is.
func TestPatienceHasNoPartInOtherErrors(t *testing.T) {
	p := newPatience(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := p.within(ctx, func(ctx context.Context) error { return ctx.Err() })
	if !errors.Is(err, context.Canceled) || errors.Is(err, errSilence) {
		t.Error(err)
	}
	if err := p.within(t.Context(), func(context.Context) error { return errFake }); err != errFake {
		t.Error(err)
	}
	err = p.within(t.Context(), func(context.Context) error { return &pgconn.PgError{Code: "57014"} })
	if !strings.Contains(err.Error(), "poll_timeout, 1m0s") || cause(err) != causePostgres || p.now != 2*time.Minute {
		t.Errorf("%v, counted as %s, patience %v", err, cause(err), p.now)
	}
}
