package relay

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/outbox/store"
)

func (b *bench) rows(keys ...string) {
	for i, key := range keys {
		b.table.add(key, fmt.Sprintf(`{"n": %d}`, i))
	}
}

func TestAPageIsSentWhileTheOneBeforeCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.rows("a", "b", "c", "d", "e")
		b.kafka.heldCommit = 1
		done := make(chan error)
		go func() { done <- b.drain() }()
		synctest.Wait()
		// Promise 3: t+1 is not committed before t is known to be.
		if got, want := b.kafka.transcript(), "send 1, send 2"; got != want {
			t.Errorf("while 1 commits: %s, want %s", got, want)
		}
		close(b.kafka.release)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got, want := b.kafka.transcript(), "send 1, send 2, commit 1, send 3, commit 2, commit 3"; got != want &&
			got != "send 1, send 2, commit 1, commit 2, send 3, commit 3" {
			t.Errorf("%s", got)
		}
		if got := fmt.Sprint(b.kafka.keys("t"), seqs(b.kafka.records)); got != "[a b c d e] [1 2 3 4 5]" {
			t.Error(got)
		}
	})
}

func TestPromise3AFailedCommitTakesTheNextTransactionWithIt(t *testing.T) {
	b := newBench()
	b.rows("a", "b", "c", "d", "e")
	b.kafka.failCommit = 1
	if err := b.drain(); !errors.Is(err, errFake) {
		t.Fatal(err)
	}
	if len(b.kafka.records) != 0 {
		t.Fatalf("%s left %d records", b.kafka.transcript(), len(b.kafka.records))
	}
	b.restart()
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(b.kafka.keys("t"), seqs(b.kafka.records)); got != "[a b c d e] [1 2 3 4 5]" {
		t.Error(got)
	}
}

// Whatever fails and whenever, a start from the newest cursor goes on where it ended.
func TestPromise3ARestartRepeatsTheIdenticalWindow(t *testing.T) {
	for at := int64(1); at <= 5; at++ {
		for _, when := range []string{"publish", "commit"} {
			b := newBench()
			b.rows("a", "b", "c", "d", "e", "f", "g")
			if when == "publish" {
				b.kafka.failPublish = at
			} else {
				b.kafka.failCommit = at
			}
			_ = b.drain()
			b.rows("h") // visible now, but not in the window that was open
			b.restart()
			if err := b.drain(); err != nil {
				t.Fatal(err)
			}
			if err := b.drain(); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(b.kafka.keys("t"), seqs(b.kafka.records)); got != "[a b c d e f g h] [1 2 3 4 5 6 7 8]" {
				t.Errorf("%s of %d failed: %s", when, at, got)
			}
		}
	}
}

func TestPromise1NothingIsCommittedBeforePostgresHasFlushed(t *testing.T) {
	b := newBench()
	b.rows("a")
	b.table.unflushed = true
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	if b.table.forced != 1 || len(b.kafka.keys("t")) != 1 {
		t.Errorf("forced %d times, published %v", b.table.forced, b.kafka.keys("t"))
	}
	b.rows("b")
	b.table.unflushed, b.table.stuck = true, true
	if err := b.drain(); err == nil || b.table.forced != 1+flushTries {
		t.Errorf("forced %d times: %v", b.table.forced, err)
	}
	if got := b.kafka.keys("t"); len(got) != 1 {
		t.Errorf("published %v", got)
	}
}

func TestPromise1TheCursorDoesNotMoveOverWhatIsNotFlushed(t *testing.T) {
	b := newBench()
	b.cursor.Time = fakeNow // a cursor of its own is not due
	b.table.unflushed = true
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	if !b.cursor.Last.IsZero() || b.table.forced != 0 {
		t.Errorf("the cursor moved to %s, the flush was forced %d times", b.cursor.Last, b.table.forced)
	}
	b.table.unflushed = false
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	if b.cursor.Last.IsZero() || b.kafka.transcript() != "" {
		t.Errorf("last %q, %q", b.cursor.Last, b.kafka.transcript())
	}
}

func TestTheCursorIsWrittenNowAndThenWithoutEvents(t *testing.T) {
	b := newBench()
	now := fakeNow
	b.now = func() time.Time { return now }
	for range 3 { // the first start writes one at once
		if err := b.drain(); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.kafka.transcript(); got != "send 1, commit 1" {
		t.Fatal(got)
	}
	now = now.Add(time.Hour)
	if err := b.drain(); err != nil || b.kafka.transcript() != "send 1, commit 1" {
		t.Fatalf("nothing had moved: %s, %v", b.kafka.transcript(), err)
	}
	b.rows("a")
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	if all := b.kafka.cursors(); len(all) != 2 || all[1].T != 2 || all[1].Last.Xmax != 2 {
		t.Errorf("%s: %+v", b.kafka.transcript(), all)
	}
}

func TestPromise7TheLineOfABadEventIsParkedInOrder(t *testing.T) {
	b := newBench()
	b.table.add("a", `{"n": 1}`)
	b.table.add("bad", `{"n": "x"}`)
	b.table.add("bad", `{"n": 2}`)
	b.table.add("b", `{"n": 3}`)
	b.table.add("bad", `{"n": 4}`)
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.table.add("bad", `{"n": 5}`)
	b.table.add("a", `{"n": 6}`)
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(b.kafka.keys("t"), seqs(b.kafka.records)); got != "[a b a] [1 2 3]" {
		t.Error(got)
	}
	var got []string
	for _, r := range b.kafka.records {
		if r.Topic == parkedTopic("test") {
			p, err := decodeParked(r.Value)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%d:%s:%s", p.Position, p.Reason, p.Body))
		}
	}
	want := `[1:body:{"n": "x"} 2:behind:{"n": 2} 3:behind:{"n": 4} 4:behind:{"n": 5}]`
	if fmt.Sprint(got) != want {
		t.Errorf("parked %v, want %s", got, want)
	}
}

// A database that went back in time is noticed in the poll that sees it.
func TestARestoredDatabaseIsNoticedInTheNextPoll(t *testing.T) {
	b := newBench()
	b.rows("a")
	b.table.source.LSN = 500
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	b.rows("b")
	b.table.source.LSN = 400
	err := b.drain()
	if !errors.Is(err, store.ErrRestored) || !mustStop(err) {
		t.Errorf("%v", err)
	}
	if got := b.kafka.keys("t"); len(got) != 1 {
		t.Errorf("published %v", got)
	}
}

// Stopping lets the transaction at hand finish and begins no other.
func TestStoppingFinishesTheTransactionAtHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.rows("a", "b", "c", "d", "e", "f", "g")
		b.kafka.heldCommit = 1
		ended := make(chan error)
		go func() { ended <- b.run(b.ctx, context.WithoutCancel(b.ctx)) }()
		synctest.Wait() // 1 commits, 2 is sent, 3 is framed
		b.stop()
		close(b.kafka.release)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got, want := b.kafka.transcript(), "send 1, send 2, commit 1, send 3, commit 2, commit 3"; got != want &&
			got != "send 1, send 2, commit 1, commit 2, send 3, commit 3" {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// Polls of an idle outbox come ever more rarely, up to the configured pause, and often again after an event.
func TestPollingAdaptsToTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		ended := make(chan error)
		go func() { ended <- b.run(b.ctx, b.ctx) }()
		time.Sleep(10 * time.Second) // on the bubble's clock
		before := b.table.polled()
		time.Sleep(10 * time.Second)
		if got := b.table.polled() - before; got < 99 || got > 101 {
			t.Errorf("%d polls in ten idle seconds, want one every 100 ms", got)
		}
		b.rows("a")
		before = b.table.polled()
		time.Sleep(250 * time.Millisecond)
		if got := b.table.polled() - before; got < 6 {
			t.Errorf("%d polls in the 250 ms after an event, idle ones would be 2 or 3", got)
		}
		b.stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A Postgres that does not get to flushing holds up one transaction for a while, not the relay for ever.
func TestAFlushThatDoesNotEndIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		defer b.stop()
		b.rows("a")
		b.table.unflushed, b.table.frozen = true, true
		ended := make(chan error, 1)
		go func() { ended <- b.drain() }()
		select {
		case err := <-ended:
			if !errors.Is(err, context.DeadlineExceeded) || mustStop(err) {
				t.Errorf("%v", err)
			}
		case <-time.After(2 * b.cfg.PublishTimeout): // on the bubble's clock
			t.Error("it waits on")
		}
	})
}

// Promise 7: while the registry, or Kafka, is asked about an event and does not answer, what was sent before is committed. It would
// wait past the broker's transaction timeout otherwise, be aborted, sent again, and wait again.
func TestPromise7WhatIsAcknowledgedDoesNotWaitForTheRegistry(t *testing.T) {
	for _, asked := range []string{"registry", "Kafka"} {
		t.Run(asked, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.rows("a", "b", "c")
				b.table.rows[2].Topic = "u"
				answers := make(chan struct{})
				if asked == "registry" {
					b.framer.ids.registry = fakeRegistry(func(subject, _ string) (int, error) {
						if subject == "u-test.Counted" {
							<-answers
						}
						return 7, nil
					})
				} else {
					b.framer.partitions = func(_ context.Context, topic string) (int32, error) {
						if topic == "u" {
							<-answers
						}
						return 3, nil
					}
				}
				done := make(chan error)
				go func() { done <- b.drain() }()
				synctest.Wait()
				if got, want := b.kafka.transcript(), "send 1, commit 1"; got != want {
					t.Errorf("while %s does not answer: %s, want %s", asked, got, want)
				}
				close(answers)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if got := fmt.Sprint(b.kafka.keys("t"), b.kafka.keys("u")); got != "[a b] [c]" {
					t.Error(got)
				}
			})
		})
	}
}
