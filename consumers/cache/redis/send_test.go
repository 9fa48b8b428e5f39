package redis

import (
	"testing"

	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/test/harness"
)

// Scripts are sent without waiting for each other: one that fails must not have those behind it move the position past what it has not written.
func TestNothingIsDoneBehindAScriptThatFails(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, harness.Redis(t).URL, sinktest.Projections()...)
	s.maxKeys = 3 // a script a state
	n := names(t)
	owner := claim(t, s, ledger)
	mustCommit(t, s, batch(owner.Epoch, 0, account("a", 1, "ca"), account("b", 1, "cb"), account("c", 1, "cc")))
	second := batch(owner.Epoch, 10, account("a", 2, "ca"), account("b", 2, "cb"), account("c", 2, "cc"))
	for _, key := range []string{"ca", "cb", "cc"} {
		s.rdb.Set(ctx, n.Value(key), "stale", 0)
	}
	// Of another type: the script that reads it fails.
	kept := s.rdb.Dump(ctx, n.State(sinktest.EntityLedger, "b")).Val()
	s.rdb.Del(ctx, n.State(sinktest.EntityLedger, "b"))
	s.rdb.LPush(ctx, n.State(sinktest.EntityLedger, "b"), "no text")
	for range 2 { // the second try finds what the first one has left
		if err := s.Commit(ctx, second); err == nil {
			t.Fatal("committed although a state could not be written")
		}
		if at, err := s.Positions(ctx); err != nil || at[ledger] != second.From {
			t.Fatalf("the position is %d, %v: it was %d", at[ledger], err, second.From)
		}
		if s.rdb.Exists(ctx, n.Value("cc")).Val() != 1 {
			t.Fatal("a script was carried out behind one that failed")
		}
	}
	s.rdb.Del(ctx, n.State(sinktest.EntityLedger, "b"))
	s.rdb.Restore(ctx, n.State(sinktest.EntityLedger, "b"), 0, kept)
	mustCommit(t, s, second)
	for _, key := range []string{"ca", "cb", "cc"} {
		if s.rdb.Exists(ctx, n.Value(key)).Val() != 0 {
			t.Errorf("the value of %s is still there", key)
		}
	}
}

// A server that was started anew has forgotten the script: what is sent is not lost.
func TestAServerThatForgotTheScriptIsGivenIt(t *testing.T) {
	t.Parallel()
	s := open(t, mini(t), sinktest.Projections()...)
	s.maxKeys = 3
	owner := claim(t, s, ledger)
	if err := s.rdb.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, batch(owner.Epoch, 0, account("a", 1, "ca"), account("b", 1, "cb")))
	if got, err := s.Load(t.Context(), sinktest.EntityLedger, []string{"a", "b"}); err != nil || len(got) != 2 {
		t.Errorf("%d states are stored, %v", len(got), err)
	}
}
