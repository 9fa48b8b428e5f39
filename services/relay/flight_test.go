package relay

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// sharing makes a bench whose transactions take n pages, of two events each.
func sharing(n int) *bench {
	b := newBench()
	b.together, b.shared = n, n
	return b
}

func TestPagesOfABacklogShareATransaction(t *testing.T) {
	b := sharing(3)
	b.rows("a", "b", "c", "d", "e", "f", "g")
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	if got := b.kafka.transcript(); strings.ReplaceAll(got, "send 2, commit 1", "commit 1, send 2") != "send 1, send 1, send 1, commit 1, send 2, commit 2" {
		t.Error(got)
	}
	if got := fmt.Sprint(b.kafka.keys("t"), seqs(b.kafka.records)); got != "[a b c d e f g] [1 2 3 4 5 6 7]" {
		t.Error(got)
	}
	if got := fmt.Sprint(b.report.published()); got != "[6 1]" {
		t.Errorf("told of %s events", got)
	}
	var ts []int64
	for _, c := range b.kafka.cursors() {
		ts = append(ts, c.T)
	}
	if got := fmt.Sprint(ts); got != "[1 1 1 2]" { // Promise 3: the parity of every cursor is that of its producer
		t.Errorf("cursors of %s", got)
	}
}

// Whatever fails, all pages of a transaction come again, as they were.
func TestPromise3PagesOfATransactionFailTogether(t *testing.T) {
	for shared := 1; shared <= 4; shared++ {
		for at := 1; at <= 6; at++ {
			for _, when := range []string{"send", "commit"} {
				b := sharing(shared)
				b.rows("a", "b", "c", "d", "e", "f", "g", "h", "i")
				if when == "send" {
					b.kafka.failSend = at
				} else {
					b.kafka.failCommit = int64(at)
				}
				_ = b.drain()
				b.rows("j")
				b.restart()
				for range 2 {
					if err := b.drain(); err != nil {
						t.Fatal(err)
					}
				}
				if got := fmt.Sprint(b.kafka.keys("t"), seqs(b.kafka.records)); got != "[a b c d e f g h i j] [1 2 3 4 5 6 7 8 9 10]" {
					t.Errorf("%d pages, %s %d failed: %s", shared, when, at, got)
				}
			}
		}
	}
}

// What is parked is told of with the transaction that it is in.
func TestAPageWithAParkedEventHasATransactionOfItsOwn(t *testing.T) {
	b := sharing(4)
	b.rows("a", "b")
	b.table.add("bad", `{"n": "x"}`)
	b.rows("c", "d", "e")
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(b.report.published(), b.report.parked(), b.kafka.keys("t")); got != "[2 1 2] [0 1 0] [a b c d e]" {
		t.Errorf("%s: %s", got, b.kafka.transcript())
	}
}

// Those who read what is committed do not wait for a backlog that comes slowly.
func TestATransactionIsNotHeldOpenForSlowPages(t *testing.T) {
	b := sharing(4)
	now := fakeNow
	b.now = func() time.Time { now = now.Add(openFor); return now }
	b.rows("a", "b", "c", "d", "e")
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(b.report.published()); got != "[2 2 1]" {
		t.Errorf("%s: %s", got, b.kafka.transcript())
	}
}

// published and parked count by transaction.
func (f *fakeReport) published() (n []int) {
	for _, c := range f.commits {
		n = append(n, c.published)
	}
	return n
}

func (f *fakeReport) parked() (n []int) {
	for _, c := range f.commits {
		n = append(n, c.parked)
	}
	return n
}
