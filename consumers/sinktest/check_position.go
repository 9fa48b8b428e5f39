package sinktest

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

var (
	ledger0 = consumers.TopicPartition{Topic: TopicLedger, Partition: 0}
	ledger1 = consumers.TopicPartition{Topic: TopicLedger, Partition: 1}
	wide0   = consumers.TopicPartition{Topic: TopicWide, Partition: 0}
)

// put is a commit that stores states of the ledger.
func put(tp consumers.TopicPartition, epoch, from, next int64, changes ...fold.Change) fold.Commit {
	c := fold.Commit{TopicPartition: tp, Epoch: epoch, From: from, Next: next, Changes: map[string][]fold.Change{}}
	if len(changes) > 0 {
		c.Changes[EntityLedger] = changes
	}
	for o := from; o < next; o++ {
		c.Events = append(c.Events, event(tp, o, "k", typeAdded, map[string]any{}))
	}
	return c
}

func change(key string, s fold.Stored, existed bool) fold.Change {
	return fold.Change{Key: key, Stored: s, Existed: existed, CacheKeys: []string{"ledger:" + key}}
}

// wantLedger fails the check if readers see other states of the ledger than these.
func wantLedger(t testing.TB, b Backend, what string, want map[string]fold.Stored) {
	t.Helper()
	wantStates(t, what, b.Dump(t, EntityLedger), want)
}

// wantPosition fails the check if the stored position of a partition is another; -1 is none.
func wantPosition(t testing.TB, s fold.Sink, tp consumers.TopicPartition, want int64) {
	t.Helper()
	all, err := s.Positions(context.Background())
	if err != nil {
		t.Fatalf("positions: %v", err)
	}
	got, ok := all[tp]
	if !ok {
		got = -1
	}
	if got != want {
		t.Errorf("position of %v is %d, want %d", tp, got, want)
	}
}

// refused fails the check if a commit does not fail with the error.
func refused(t testing.TB, s fold.Sink, c fold.Commit, want error) {
	t.Helper()
	if err := s.Commit(context.Background(), c); !errors.Is(err, want) {
		t.Errorf("commit %v %d..%d at epoch %d: error is %v, want %v", c.TopicPartition, c.From, c.Next, c.Epoch, err, want)
	}
}

func positionChecks() []check {
	return []check{
		one("a new store has no position", checkNewStore),
		one("a commit moves position and states", checkCommit),
		one("the same batch by the same epoch is refused", checkRedeliverySameEpoch),
		one("the same batch after a new claim is refused", checkRedeliveryNewClaim),
		one("a batch that leaves a gap is refused", checkGap),
		one("a first commit starts anywhere", checkFirstAnywhere),
		one("a batch without events moves the position", checkEmptyBatch),
		one("partitions and topics are apart", checkApart),
		one("events are kept once", checkEvents),
	}
}

func checkNewStore(t testing.TB, b Backend) {
	s := open(t, b)
	wantPosition(t, s, ledger0, -1)
	c := claim(t, s, ledger0)
	if c.Epoch != 1 || c.Next != -1 || len(c.Quarantined) != 0 {
		t.Errorf("first claim is %+v, want epoch 1, next -1, nothing quarantined", c)
	}
	wantPosition(t, s, ledger0, -1)
	wantLedger(t, b, "new store", nil)
}

func checkCommit(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 0, 2, change("a", ledger("ann", 100, 0), false), change("b", ledger("bob", -250, 1), false)))
	want := map[string]fold.Stored{"a": ledger("ann", 100, 0), "b": ledger("bob", -250, 1)}
	wantPosition(t, s, ledger0, 2)
	wantLedger(t, b, "after the commit", want)
	commit(t, s, put(ledger0, c.Epoch, 2, 3, change("a", ledger("ann", 300, 2, int64(1), int64(3)), true)))
	want["a"] = ledger("ann", 300, 2, int64(1), int64(3))
	s = open(t, b)
	wantPosition(t, s, ledger0, 3)
	wantLedger(t, b, "after a restart", want)
	if c := claim(t, s, ledger0); c.Next != 3 {
		t.Errorf("claim goes on at %d, want 3", c.Next)
	}
}

func checkRedeliverySameEpoch(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	first := put(ledger0, c.Epoch, 0, 1, change("a", ledger("ann", 100, 0), false))
	commit(t, s, first)
	again := put(ledger0, c.Epoch, 0, 1, change("a", ledger("eve", 200, 0, int64(1), int64(1)), false))
	refused(t, s, again, consumers.ErrPosition)
	commit(t, s, put(ledger0, c.Epoch, 1, 2, change("b", ledger("bob", 1, 1), false)))
	refused(t, s, first, consumers.ErrPosition)
	wantPosition(t, s, ledger0, 2)
	wantLedger(t, b, "after redelivery", map[string]fold.Stored{"a": ledger("ann", 100, 0), "b": ledger("bob", 1, 1)})
}

func checkRedeliveryNewClaim(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 0, 1, change("a", ledger("ann", 100, 0), false)))
	for range 2 {
		c = claim(t, s, ledger0)
		if c.Next != 1 {
			t.Errorf("claim goes on at %d, want 1", c.Next)
		}
		refused(t, s, put(ledger0, c.Epoch, 0, 1, change("a", ledger("eve", 200, 0), false)), consumers.ErrPosition)
		s = open(t, b)
	}
	c = claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 1, 2, change("b", ledger("bob", 1, 1), false)))
	wantPosition(t, s, ledger0, 2)
	wantLedger(t, b, "after redelivery", map[string]fold.Stored{"a": ledger("ann", 100, 0), "b": ledger("bob", 1, 1)})
}

func checkGap(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 0, 3, change("a", ledger("ann", 100, 2), false)))
	refused(t, s, put(ledger0, c.Epoch, 5, 6, change("a", ledger("eve", 200, 5), true)), consumers.ErrPosition)
	wantPosition(t, s, ledger0, 3)
	wantLedger(t, b, "after the gap", map[string]fold.Stored{"a": ledger("ann", 100, 2)})
}

func checkFirstAnywhere(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 4711, 4712, change("a", ledger("ann", 100, 4711), false)))
	wantPosition(t, s, ledger0, 4712)
	if c := claim(t, s, ledger0); c.Next != 4712 {
		t.Errorf("claim goes on at %d, want 4712", c.Next)
	}
}

// checkEmptyBatch passes what carries no event: transaction markers, aborted records.
func checkEmptyBatch(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	commit(t, s, fold.Commit{TopicPartition: ledger0, Epoch: c.Epoch, From: 0, Next: 9})
	wantPosition(t, s, ledger0, 9)
	refused(t, s, fold.Commit{TopicPartition: ledger0, Epoch: c.Epoch, From: 0, Next: 9}, consumers.ErrPosition)
	commit(t, s, put(ledger0, c.Epoch, 9, 10, change("a", ledger("ann", 100, 9), false)))
	wantPosition(t, s, ledger0, 10)
}

func checkApart(t testing.TB, b Backend) {
	s := open(t, b)
	tps := []consumers.TopicPartition{ledger0, ledger1, wide0}
	epochs := map[consumers.TopicPartition]int64{}
	for i, tp := range tps {
		for range i + 1 {
			epochs[tp] = claim(t, s, tp).Epoch
		}
		if epochs[tp] != int64(i+1) {
			t.Errorf("epoch of %v after %d claims is %d", tp, i+1, epochs[tp])
		}
	}
	for i, tp := range tps {
		next := int64(10 * (i + 1))
		commit(t, s, fold.Commit{TopicPartition: tp, Epoch: epochs[tp], From: 0, Next: next, Quarantine: map[string]int64{tp.Topic: next}})
	}
	s = open(t, b)
	for i, tp := range tps {
		wantPosition(t, s, tp, int64(10*(i+1)))
		c := claim(t, s, tp)
		if c.Epoch != int64(i+2) || len(c.Quarantined) != 1 || c.Quarantined[tp.Topic] != int64(10*(i+1)) {
			t.Errorf("claim of %v is %+v", tp, c)
		}
	}
}

func checkEvents(t testing.TB, b Backend) {
	keeper, ok := b.(EventKeeper)
	s := open(t, b)
	c := claim(t, s, ledger0)
	first := put(ledger0, c.Epoch, 0, 3)
	commit(t, s, first)
	refused(t, s, first, consumers.ErrPosition)
	second := put(ledger0, c.Epoch, 3, 5)
	commit(t, s, second)
	s = open(t, b)
	wantPosition(t, s, ledger0, 5)
	if !ok {
		return // This backend keeps states only; that the commits went through is what there is to see.
	}
	wantEvents(t, keeper.DumpEvents(t, TopicLedger), append(first.Events, second.Events...))
}
