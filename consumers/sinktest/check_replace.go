package sinktest

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

func replaceChecks() []check {
	var all []check
	for _, c := range []struct {
		name string
		run  func(testing.TB, Backend)
	}{
		{"a state is replaced at an equal version", checkReplaceEqual},
		{"a state is replaced by the owner and at the position only", checkReplaceGuarded},
		{"a state that is there twice is replaced by one", checkReplaceDouble},
		{"a replacement that a crash cuts off is done again", checkReplaceCrash},
	} {
		all = append(all, offered(c.name, func(o Offers) bool { return o.Replace }, c.run))
	}
	return all
}

// replacing is a commit that stores states folded anew.
func replacing(epoch, at int64, changes ...fold.Change) fold.Commit {
	c := put(ledger0, epoch, at, at, changes...)
	c.Replace = true
	return c
}

func checkReplaceEqual(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	first := put(ledger0, c.Epoch, 0, 6, change("a", ledger("wrong", 1, 0), false), change("b", ledger("bob", 2, 3), false), change("c", deleted(2), false),
		change("d", ledger("wrong", 3, 4), false), change("same", ledger("sam", 4, 5), false))
	first.Quarantine = map[string]int64{"q": 5}
	commit(t, s, first)
	commit(t, s, replacing(c.Epoch, 6,
		change("a", ledger("ann", 100, 0), true),      // of the same version
		change("b", ledger("eve", 666, 1), true),      // of a lesser one: what is stored is newer
		change("c", ledger("cat", 7, 2), true),        // which was not deleted
		change("d", deleted(4), true),                 // which was
		change("missing", ledger("mia", 9, 5), false), // which was lost
	))
	want := map[string]fold.Stored{"a": ledger("ann", 100, 0), "b": ledger("bob", 2, 3), "c": ledger("cat", 7, 2), "missing": ledger("mia", 9, 5), "same": ledger("sam", 4, 5)}
	wantLedger(t, b, "after the replacement", want)
	wantPosition(t, s, ledger0, 6)
	s = open(t, b)
	all := maps.Clone(want)
	all["d"] = deleted(4)
	wantStates(t, "load after a restart", load(t, s, EntityLedger, "a", "b", "c", "d", "missing", "same"), all)
	c = claim(t, s, ledger0)
	if c.Next != 6 || !maps.Equal(c.Quarantined, map[string]int64{"q": 5}) {
		t.Errorf("claim after a replacement is %+v, want next 6 and q quarantined at 5", c)
	}
	commit(t, s, replacing(c.Epoch, 6, change("a", ledger("ann", 101, 0), true))) // as often as it takes
	commit(t, s, put(ledger0, c.Epoch, 6, 8, change("a", ledger("amy", 200, 7), true)))
	want["a"] = ledger("amy", 200, 7)
	wantLedger(t, b, "after the next batch", want)
	if keeper, ok := b.(EventKeeper); ok {
		wantEvents(t, keeper.DumpEvents(t, TopicLedger), put(ledger0, 1, 0, 8).Events)
	}
}

// Promise 4: what is folded anew is stored by the owner of the partition only, and as of the stored position.
func checkReplaceGuarded(t testing.TB, b Backend) {
	s := open(t, b)
	old, want := before(t, s)
	c := claim(t, s, ledger0)
	refused(t, s, replacing(old.Epoch, 2, change("a", ledger("eve", 666, 0), true)), consumers.ErrFenced)
	refused(t, s, replacing(c.Epoch, 1, change("a", ledger("eve", 666, 0), true)), consumers.ErrPosition)
	refused(t, s, replacing(c.Epoch, 3, change("a", ledger("eve", 666, 0), true)), consumers.ErrPosition)
	wantLedger(t, b, "after the refused replacements", want)
	wantPosition(t, s, ledger0, 2)
	commit(t, s, replacing(c.Epoch, 2, change("a", ledger("ann", 101, 0), true)))
	want["a"] = ledger("ann", 101, 0)
	wantLedger(t, b, "after the replacement", want)
}

func checkReplaceDouble(t testing.TB, b Backend) {
	planter, ok := b.(StatePlanter)
	if !ok {
		return // This store has no way to hold a state twice.
	}
	s := open(t, b)
	c, want := before(t, s)
	for _, key := range []string{"a", "b"} {
		planter.DoubleState(t, EntityLedger, key)
	}
	planter.DoubleState(t, EntityLedger, "a")
	commit(t, s, replacing(c.Epoch, 2, change("a", ledger("ann", 101, 0), true), change("b", ledger("eve", 666, 0), true)))
	want["a"] = ledger("ann", 101, 0) // b is stored of a greater version, twice
	wantStates(t, "load", load(t, s, EntityLedger, "a", "b"), want)
	if b.Offers().Snapshots {
		wantStates(t, "snapshot", states(t, snapshot(t, s), EntityLedger), want)
	}
}

// Promise 4: crash at any point. What is replaced is what it was or what it is to be, the position stays, and the replacement is done again.
func checkReplaceCrash(t testing.TB, b Backend) {
	crasher, ok := b.(Crasher)
	if !ok {
		return // checkReplaceEqual opens the store again.
	}
	s := open(t, b)
	c := claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 0, 3, change("a", ledger("ann", 1, 0), false), change("b", ledger("bob", 1, 1), false), change("c", deleted(2), false)))
	was := map[string]fold.Stored{"a": ledger("ann", 1, 0), "b": ledger("bob", 1, 1), "c": deleted(2)}
	for i, point := range crasher.CrashPoints() {
		n := int64(i) + 2
		is := map[string]fold.Stored{"a": ledger("ann", n, 0), "b": deleted(1), "c": ledger("cat", n, 2)}
		again := func() fold.Commit {
			return replacing(c.Epoch, 3, change("a", is["a"], true), change("b", is["b"], true), change("c", is["c"], false))
		}
		crasher.CrashAt(t, point)
		if err := s.Commit(context.Background(), again()); err == nil {
			t.Logf("a replacement has nothing to do at %q", point)
		}
		s = open(t, b)
		for key, st := range load(t, s, EntityLedger, "a", "b", "c") {
			if differ(st, was[key]) != "" && differ(st, is[key]) != "" {
				t.Errorf("after a crash at %q %s is %+v: neither what it was nor what it is to be", point, key, st)
			}
			delete(was, key)
		}
		if len(was) > 0 {
			t.Errorf("after a crash at %q these are not there: %v", point, slices.Sorted(maps.Keys(was)))
		}
		wantPosition(t, s, ledger0, 3)
		c = claim(t, s, ledger0)
		commit(t, s, again())
		wantStates(t, "after a replacement that was cut off at "+point, load(t, s, EntityLedger, "a", "b", "c"), is)
		was = is
	}
}
