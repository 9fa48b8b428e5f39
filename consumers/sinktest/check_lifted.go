package sinktest

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// marked stores states and marks, and returns the claim of the owner.
func marked(t testing.TB, s fold.Sink) fold.Claim {
	t.Helper()
	c := claim(t, s, ledger0)
	first := put(ledger0, c.Epoch, 0, 6, change("a", ledger("ann", 100, 1), false))
	first.Quarantine = map[string]int64{"a": 2, "b": 3, "schlüssel/'\"\\\n": 5}
	commit(t, s, first)
	return c
}

// redrive is a commit that applies what was put aside of a key. The position stays where it is.
func redrive(epoch, at int64, key string, state fold.Stored, existed bool) fold.Commit {
	c := put(ledger0, epoch, at, at, change(key, state, existed))
	c.Events = append(c.Events, event(ledger0, state.Version-1, key, typeAdded, map[string]any{}))
	c.Lifted = []string{key}
	return c
}

// wantMarks fails the check if a new owner finds other marks. It returns what the new owner was told.
func wantMarks(t testing.TB, s fold.Sink, want map[string]int64) fold.Claim {
	t.Helper()
	c := claim(t, s, ledger0)
	if !maps.Equal(c.Quarantined, want) {
		t.Errorf("quarantined are %v, want %v", c.Quarantined, want)
	}
	return c
}

func checkLifted(t testing.TB, b Backend) {
	s := open(t, b)
	c := marked(t, s)
	commit(t, s, redrive(c.Epoch, 6, "a", ledger("amy", 200, 4), true))
	wantPosition(t, s, ledger0, 6)
	s = open(t, b)
	c = wantMarks(t, s, map[string]int64{"b": 3, "schlüssel/'\"\\\n": 5})
	want := map[string]fold.Stored{"a": ledger("amy", 200, 4)}
	wantLedger(t, b, "after the mark was lifted", want)

	moved := put(ledger0, c.Epoch, 6, 6)
	moved.Lifted, moved.Quarantine = []string{"b", "never marked"}, map[string]int64{"b": 4}
	commit(t, s, moved)
	c = wantMarks(t, s, map[string]int64{"b": 4, "schlüssel/'\"\\\n": 5})

	// Lifting and the next events come in one commit as well as in two.
	both := put(ledger0, c.Epoch, 6, 9, change("b", ledger("bob", 5, 7), false))
	both.Lifted, both.Quarantine = []string{"b", "schlüssel/'\"\\\n"}, map[string]int64{"a": 8}
	commit(t, s, both)
	wantPosition(t, s, ledger0, 9)
	s = open(t, b)
	c = wantMarks(t, s, map[string]int64{"a": 8})

	kept := put(ledger0, c.Epoch, 9, 10)
	kept.Quarantine = map[string]int64{"a": 9}
	commit(t, s, kept)
	wantMarks(t, s, map[string]int64{"a": 8})
	want["b"] = ledger("bob", 5, 7)
	wantLedger(t, b, "in the end", want)
}

// Promise 4: a mark is lifted in the step that stores what was put aside, and by the owner only.
func checkLiftedAtomic(t testing.TB, b Backend) {
	s := open(t, b)
	old := marked(t, s)
	marks := map[string]int64{"a": 2, "b": 3, "schlüssel/'\"\\\n": 5}
	c := wantMarks(t, s, marks)
	refused(t, s, redrive(old.Epoch, 6, "a", ledger("eve", 666, 4), true), consumers.ErrFenced)
	refused(t, s, redrive(c.Epoch, 5, "a", ledger("eve", 666, 4), true), consumers.ErrPosition)
	refused(t, s, redrive(c.Epoch, 7, "a", ledger("eve", 666, 4), true), consumers.ErrPosition)
	c = wantMarks(t, s, marks)
	want := map[string]fold.Stored{"a": ledger("ann", 100, 1)}
	wantLedger(t, b, "after the refused commits", want)

	broken := ledger("eve", 1, 4)
	broken.Values = []any{int64(1), "not a decimal", 3.5}
	if err := s.Commit(context.Background(), redrive(c.Epoch, 6, "a", broken, true)); err == nil {
		t.Error("a value of the wrong kind was committed")
	}
	c = wantMarks(t, s, marks)
	wantLedger(t, b, "after the failed commit", want)
	if crasher, ok := b.(Crasher); ok {
		checkLiftedCrash(t, b, crasher)
		return
	}
	commit(t, s, redrive(c.Epoch, 6, "a", ledger("amy", 200, 4), true))
	wantMarks(t, s, map[string]int64{"b": 3, "schlüssel/'\"\\\n": 5})
}

// checkLiftedCrash kills commits that redrive. Whoever finds the mark gone finds the state as well; with the mark the commit is
// made once more, and changes what is missing.
func checkLiftedCrash(t testing.TB, b Backend, crasher Crasher) {
	for i, point := range crasher.CrashPoints() {
		s := open(t, b)
		key := fmt.Sprint("crash", i)
		c := claim(t, s, ledger0)
		at := c.Next
		lay := put(ledger0, c.Epoch, at, at+2)
		lay.Quarantine = map[string]int64{key: at}
		commit(t, s, lay)
		state := ledger("amy", int64(i), at)
		crasher.CrashAt(t, point)
		if err := s.Commit(context.Background(), redrive(c.Epoch, at+2, key, state, false)); err == nil {
			t.Errorf("a commit that died at %q reported success", point)
		}
		s = open(t, b)
		c = claim(t, s, ledger0)
		if _, marked := c.Quarantined[key]; marked {
			commit(t, s, redrive(c.Epoch, at+2, key, state, false))
			if c = claim(t, s, ledger0); c.Quarantined[key] != 0 {
				t.Errorf("after a crash at %q the mark cannot be lifted", point)
			}
		}
		wantPosition(t, s, ledger0, at+2)
		wantStates(t, "after a crash at "+point, load(t, s, EntityLedger, key), map[string]fold.Stored{key: state})
	}
}
