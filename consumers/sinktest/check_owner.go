package sinktest

import (
	"context"
	"maps"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

func ownerChecks() []check {
	return []check{
		one("every claim raises the epoch", checkEpochs),
		one("a stale owner is fenced", checkStaleOwner),
		one("a stale owner is fenced after a restart", checkStaleOwnerRestart),
		one("a stale owner is fenced before anything was committed", checkStaleOwnerFirst),
		one("quarantine marks survive", checkQuarantine),
		one("quarantine marks are part of the batch", checkQuarantineAtomic),
		one("the mark that tells the topic survives", checkTopicMark),
		one("quarantine marks are lifted", checkLifted),
		one("a mark is lifted with the states or not at all", checkLiftedAtomic),
		one("lanes work at the same time", checkLanes),
	}
}

func checkEpochs(t testing.TB, b Backend) {
	s := open(t, b)
	for want := int64(1); want <= 6; want++ {
		if c := claim(t, s, ledger0); c.Epoch != want {
			t.Errorf("claim %d has epoch %d", want, c.Epoch)
		}
		if want%2 == 0 {
			s = open(t, b)
		}
	}
}

// Promise 4: a slow zombie changes nothing.
func checkStaleOwner(t testing.TB, b Backend) {
	s := open(t, b)
	old := claim(t, s, ledger0)
	commit(t, s, put(ledger0, old.Epoch, 0, 1, change("a", ledger("ann", 100, 0), false)))
	owner := claim(t, s, ledger0)
	stale := put(ledger0, old.Epoch, 1, 2, change("a", ledger("eve", 666, 1), true))
	stale.Quarantine = map[string]int64{"q": 1}
	refused(t, s, stale, consumers.ErrFenced)
	wantPosition(t, s, ledger0, 1)
	commit(t, s, put(ledger0, owner.Epoch, 1, 2, change("b", ledger("bob", 5, 1), false)))
	refused(t, s, stale, consumers.ErrFenced)
	want := map[string]fold.Stored{"a": ledger("ann", 100, 0), "b": ledger("bob", 5, 1)}
	wantLedger(t, b, "after the stale commits", want)
	if c := claim(t, s, ledger0); len(c.Quarantined) != 0 {
		t.Errorf("the stale owner quarantined %v", c.Quarantined)
	}
	if keeper, ok := b.(EventKeeper); ok {
		if got := keeper.DumpEvents(t, TopicLedger); len(got) != 2 {
			t.Errorf("%d events are kept, want 2", len(got))
		}
	}
}

func checkStaleOwnerRestart(t testing.TB, b Backend) {
	s := open(t, b)
	old := claim(t, s, ledger0)
	commit(t, s, put(ledger0, old.Epoch, 0, 1, change("a", ledger("ann", 100, 0), false)))
	claim(t, s, ledger0)
	s = open(t, b)
	refused(t, s, put(ledger0, old.Epoch, 1, 2, change("a", ledger("eve", 666, 1), true)), consumers.ErrFenced)
	wantPosition(t, s, ledger0, 1)
	wantLedger(t, b, "after the stale commit", map[string]fold.Stored{"a": ledger("ann", 100, 0)})
}

func checkStaleOwnerFirst(t testing.TB, b Backend) {
	s := open(t, b)
	old := claim(t, s, ledger0)
	owner := claim(t, s, ledger0)
	refused(t, s, put(ledger0, old.Epoch, 0, 1, change("a", ledger("eve", 666, 0), false)), consumers.ErrFenced)
	wantPosition(t, s, ledger0, -1)
	wantLedger(t, b, "after the stale commit", nil)
	commit(t, s, put(ledger0, owner.Epoch, 0, 1, change("a", ledger("ann", 100, 0), false)))
}

func checkQuarantine(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	first := put(ledger0, c.Epoch, 0, 4, change("a", ledger("ann", 100, 1), false))
	first.Quarantine = map[string]int64{"a": 2, "never stored": 3}
	commit(t, s, first)
	second := put(ledger0, c.Epoch, 4, 6)
	second.Quarantine = map[string]int64{"schlüssel/'\"\\\n": 5}
	commit(t, s, second)
	want := map[string]int64{"a": 2, "never stored": 3, "schlüssel/'\"\\\n": 5}
	for range 2 {
		if c := claim(t, s, ledger0); !maps.Equal(c.Quarantined, want) {
			t.Errorf("quarantined are %v, want %v", c.Quarantined, want)
		}
		if c := claim(t, s, ledger1); len(c.Quarantined) != 0 {
			t.Errorf("another partition has %v", c.Quarantined)
		}
		s = open(t, b)
	}
	wantLedger(t, b, "a quarantined key keeps its state", map[string]fold.Stored{"a": ledger("ann", 100, 1)})
}

// checkTopicMark keeps a mark under the empty key, which no event has, with the largest number that package fold puts there; and a position goes back when a former topic's
// does not count any more.
func checkTopicMark(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	first := put(ledger0, c.Epoch, 0, 4, change("a", ledger("ann", 100, 1), false))
	first.Quarantine = map[string]int64{"": 1<<48 - 1}
	commit(t, s, first)
	second := put(ledger0, c.Epoch, 4, 6)
	second.Quarantine = map[string]int64{"q": 5, "": 7} // one that is there stays
	commit(t, s, second)
	s = open(t, b)
	c = wantMarks(t, s, map[string]int64{"": 1<<48 - 1, "q": 5})
	commit(t, s, put(ledger0, c.Epoch, 6, 0))
	wantPosition(t, s, ledger0, 0)
	wantMarks(t, open(t, b), map[string]int64{"": 1<<48 - 1, "q": 5})
}

func checkQuarantineAtomic(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 0, 1, change("a", ledger("ann", 100, 0), false)))
	gap := put(ledger0, c.Epoch, 3, 4)
	gap.Quarantine = map[string]int64{"q": 3}
	refused(t, s, gap, consumers.ErrPosition)
	again := put(ledger0, c.Epoch, 0, 1)
	again.Quarantine = map[string]int64{"q": 0}
	refused(t, s, again, consumers.ErrPosition)
	if c := claim(t, s, ledger0); len(c.Quarantined) != 0 {
		t.Errorf("refused commits quarantined %v", c.Quarantined)
	}
}

// checkLanes commits to several partitions at once, as the lanes of one process do.
func checkLanes(t testing.TB, b Backend) {
	const lanes, batches = 4, 10
	s := open(t, b)
	errs := make(chan error, lanes)
	want := map[string]fold.Stored{}
	for lane := range int64(lanes) {
		tp := consumers.TopicPartition{Topic: TopicLedger, Partition: int32(lane)}
		key := string(rune('a' + lane))
		want[key] = ledger(key, lane, batches-1)
		go func() { errs <- commitMany(s, tp, key, lane, batches) }()
	}
	for range lanes {
		if err := <-errs; err != nil {
			t.Errorf("lane: %v", err)
		}
	}
	wantLedger(t, b, "after all lanes", want)
	for lane := range int32(lanes) {
		wantPosition(t, s, consumers.TopicPartition{Topic: TopicLedger, Partition: lane}, batches)
	}
}

func commitMany(s fold.Sink, tp consumers.TopicPartition, key string, cents, batches int64) error {
	ctx := context.Background()
	c, err := s.Claim(ctx, tp)
	if err != nil {
		return err
	}
	for o := range batches {
		if _, err := s.Load(ctx, EntityLedger, []string{key}); err != nil {
			return err
		}
		if err := s.Commit(ctx, put(tp, c.Epoch, o, o+1, change(key, ledger(key, cents, o), o > 0))); err != nil {
			return err
		}
	}
	return nil
}
