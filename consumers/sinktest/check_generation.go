package sinktest

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

func generationChecks() []check {
	var all []check
	for _, c := range []struct {
		name string
		run  func(testing.TB, Backend)
	}{
		{"generations do not see each other", checkGenerationsApart},
		{"a generation takes over in one step", checkServe},
		{"a generation that is behind does not serve", checkServeBehind},
		{"readers find one generation whole at any time", checkServeReaders},
		{"a crash while serving is before or after", checkServeCrash},
		{"a generation is removed without a trace", checkRemove},
		{"the generation that serves is not removed", checkRemoveServing},
		{"a removal goes on after a crash", checkRemoveCrash},
	} {
		all = append(all, offered(c.name, func(o Offers) bool { return o.Generations }, c.run))
	}
	return all
}

// openGeneration opens a generation beside the first.
func openGeneration(t testing.TB, b Backend, n int) fold.Sink {
	t.Helper()
	return b.(Generations).OpenGeneration(t, n)
}

func serve(t testing.TB, s fold.Sink) {
	t.Helper()
	if err := s.(fold.Generational).Serve(context.Background()); err != nil {
		t.Fatalf("serve: %v", err)
	}
}

func remove(t testing.TB, s fold.Sink) {
	t.Helper()
	if err := s.(fold.Generational).Remove(context.Background()); err != nil {
		t.Fatalf("remove: %v", err)
	}
}

// wantServing fails the check if readers find other states than these; a store whose readers ask the process has nothing to be seen.
func wantServing(t testing.TB, b Backend, what string, want map[string]fold.Stored) {
	t.Helper()
	if got, ok := b.(Generations).ReadServing(t, EntityLedger); ok {
		wantStates(t, what, got, want)
	}
}

// fill stores states whose owner tells the generation, and moves the position of ledger0 to 10.
func fill(t testing.TB, s fold.Sink, who string) (fold.Claim, map[string]fold.Stored) {
	t.Helper()
	c := claim(t, s, ledger0)
	batch := put(ledger0, c.Epoch, 0, 10, change("a", ledger(who, 1, 3), false), change("b", ledger(who, 2, 4), false), change("gone", deleted(5), false))
	tally := fold.Stored{Version: 4, EventID: "e3", Time: at(4)}
	tally.Exists, tally.Values = true, []any{int64(len(who)), at(4)}
	batch.Changes[EntityTally] = []fold.Change{{Key: "a", Stored: tally}}
	commit(t, s, batch)
	return c, map[string]fold.Stored{"a": ledger(who, 1, 3), "b": ledger(who, 2, 4)}
}

func checkGenerationsApart(t testing.TB, b Backend) {
	first := open(t, b)
	c1, want1 := fill(t, first, "old")
	second := openGeneration(t, b, 2)
	wantPosition(t, second, ledger0, -1)
	wantStates(t, "a new generation", load(t, second, EntityLedger, "a", "b"), nil)
	c2 := claim(t, second, ledger0)
	if c2.Epoch != 1 || c2.Next != -1 || len(c2.Quarantined) != 0 {
		t.Errorf("the first claim in a new generation is %+v", c2)
	}
	mine := put(ledger0, c2.Epoch, 0, 4, change("a", ledger("new", 9, 3), false))
	mine.Quarantine = map[string]int64{"q": 3}
	commit(t, second, mine)
	wantPosition(t, first, ledger0, 10)
	wantStates(t, "the first generation", load(t, first, EntityLedger, "a", "b"), want1)
	commit(t, first, put(ledger0, c1.Epoch, 10, 11)) // it was not fenced
	if c := claim(t, first, ledger0); len(c.Quarantined) != 0 {
		t.Errorf("in the first generation %v is quarantined", c.Quarantined)
	}
	third := openGeneration(t, b, 3)
	wantPosition(t, third, ledger0, -1)
	second = openGeneration(t, b, 2) // a restart
	wantPosition(t, second, ledger0, 4)
	wantStates(t, "the second generation", load(t, second, EntityLedger, "a", "b"), map[string]fold.Stored{"a": ledger("new", 9, 3)})
	wantServing(t, b, "readers", want1)
	if k, ok := second.(fold.EventKeeper); ok && b.Offers().Records {
		all, err := k.Kept(context.Background())
		if err != nil || all[ledger0].Events != 4 {
			t.Errorf("the second generation keeps %+v, %v; want 4 events", all, err)
		}
	}
}

func checkServe(t testing.TB, b Backend) {
	first := open(t, b)
	c1, want1 := fill(t, first, "old")
	serve(t, first) // as it does already
	wantServing(t, b, "the first generation", want1)
	second := openGeneration(t, b, 2)
	c2, want2 := fill(t, second, "new")
	wantServing(t, b, "before it serves", want1)
	for range 2 {
		serve(t, second)
		wantServing(t, b, "when it serves", want2)
	}
	commit(t, second, put(ledger0, c2.Epoch, 10, 11, change("b", deleted(10), true)))
	commit(t, first, put(ledger0, c1.Epoch, 10, 12, change("c", ledger("old", 5, 10), false)))
	delete(want2, "b")
	wantServing(t, b, "after both have gone on", want2)
	if got, ok := b.(Generations).ReadServing(t, EntityTally); ok && (len(got) != 1 || got["a"].Values[0] != int64(len("new"))) {
		t.Errorf("readers of the other entity find %v", got)
	}
	want1["c"] = ledger("old", 5, 10)
	wantStates(t, "what follows behind", load(t, first, EntityLedger, "a", "b", "c"), want1)
	serve(t, first) // a rollback
	wantServing(t, b, "after the rollback", want1)
	first, second = open(t, b), openGeneration(t, b, 2)
	wantServing(t, b, "after restarts", want1)
	wantPosition(t, first, ledger0, 12)
	wantPosition(t, second, ledger0, 11)
}

// Promise 8: readers do not step back in time.
func checkServeBehind(t testing.TB, b Backend) {
	if !b.(Generations).TellsBehind() {
		return // Its rebuild compares the positions, and the store does not.
	}
	first := open(t, b)
	_, want1 := fill(t, first, "old")
	commit(t, first, fold.Commit{TopicPartition: ledger1, Epoch: claim(t, first, ledger1).Epoch, From: 0, Next: 3})
	second := openGeneration(t, b, 2)
	behind := func(what string) {
		t.Helper()
		if err := second.(fold.Generational).Serve(context.Background()); !errors.Is(err, fold.ErrBehind) {
			t.Errorf("%s: serve returns %v", what, err)
		}
		wantServing(t, b, what, want1)
	}
	behind("of a new generation")
	_, want2 := fill(t, second, "new")
	behind("of one that lacks a partition")
	c := claim(t, second, ledger1)
	commit(t, second, fold.Commit{TopicPartition: ledger1, Epoch: c.Epoch, From: 0, Next: 2})
	behind("of one that lacks an event")
	commit(t, second, fold.Commit{TopicPartition: ledger1, Epoch: c.Epoch, From: 2, Next: 4})
	serve(t, second)
	wantServing(t, b, "of one that is ahead", want2)
}

// Promise 8: no gap, no empty table, no step back. Readers look all the time while generations take over from each other.
func checkServeReaders(t testing.TB, b Backend) {
	const turns = 6
	first := open(t, b)
	fill(t, first, "old")
	second := openGeneration(t, b, 2)
	fill(t, second, "new")
	if _, ok := b.(Generations).ReadServing(t, EntityLedger); !ok {
		return // Readers ask the process.
	}
	done := make(chan error, 1)
	go func() {
		for turn := range turns {
			if err := []fold.Sink{second, first}[turn%2].(fold.Generational).Serve(context.Background()); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
			return
		default:
		}
		got, _ := b.(Generations).ReadServing(t, EntityLedger)
		if len(got) != 2 || got["a"].Values[0] != got["b"].Values[0] {
			t.Fatalf("a reader finds %d states: %v", len(got), got)
		}
	}
}

func checkServeCrash(t testing.TB, b Backend) {
	g := b.(Generations)
	first := open(t, b)
	_, want1 := fill(t, first, "old")
	_, want2 := fill(t, openGeneration(t, b, 2), "new")
	for i, point := range g.ServePoints() {
		s := openGeneration(t, b, 2-i%2)
		g.CrashServing(t, 2-i%2, point)
		if err := s.(fold.Generational).Serve(context.Background()); err == nil {
			t.Errorf("a process that died at %q reported success", point)
		}
		if got, ok := g.ReadServing(t, EntityLedger); ok && (len(got) != 2 || got["a"].Values[0] != got["b"].Values[0]) {
			t.Errorf("after a crash at %q readers find %v", point, got)
		}
		serve(t, openGeneration(t, b, 2-i%2))
		wantServing(t, b, "after a crash at "+point, []map[string]fold.Stored{want2, want1}[i%2])
	}
}

func checkRemove(t testing.TB, b Backend) {
	g := b.(Generations)
	fill(t, open(t, b), "old")
	second := openGeneration(t, b, 2)
	_, want2 := fill(t, second, "new")
	serve(t, second)
	first := open(t, b)
	if len(g.Traces(t, 1)) == 0 {
		t.Error("a generation that is there has no trace: that would prove nothing")
	}
	for range 2 {
		remove(t, first)
	}
	if err := first.Close(); err != nil {
		t.Errorf("close a removed generation: %v", err)
	}
	if left := g.Traces(t, 1); len(left) > 0 {
		t.Errorf("of the removed generation %v is left", left)
	}
	wantServing(t, b, "after the removal", want2)
	wantPosition(t, second, ledger0, 10)
	second = openGeneration(t, b, 2)
	wantStates(t, "the one that serves, after a restart", load(t, second, EntityLedger, "a", "b"), want2)
	commit(t, second, fold.Commit{TopicPartition: ledger0, Epoch: claim(t, second, ledger0).Epoch, From: 10, Next: 11})
	third := openGeneration(t, b, 3) // the next rebuild, which is given up
	fill(t, third, "newest")
	remove(t, third)
	if left := g.Traces(t, 3); len(left) > 0 {
		t.Errorf("of a generation that never served %v is left", left)
	}
	wantServing(t, b, "after the second removal", want2)
}

func checkRemoveServing(t testing.TB, b Backend) {
	first := open(t, b)
	_, want1 := fill(t, first, "old")
	if _, ok := b.(Generations).ReadServing(t, EntityLedger); !ok {
		return // The store does not know which one serves.
	}
	second := openGeneration(t, b, 2)
	_, want2 := fill(t, second, "new")
	refuses := func(s fold.Sink, want map[string]fold.Stored) {
		t.Helper()
		if err := s.(fold.Generational).Remove(context.Background()); !errors.Is(err, fold.ErrServing) {
			t.Errorf("remove returns %v", err)
		}
		wantServing(t, b, "after the refused removal", want)
		wantPosition(t, s, ledger0, 10)
	}
	refuses(first, want1)
	serve(t, second)
	refuses(second, want2)
	if c := claim(t, second, consumers.TopicPartition{Topic: TopicLedger}); c.Next != 10 {
		t.Errorf("a generation that was not removed goes on at %d", c.Next)
	}
}

func checkRemoveCrash(t testing.TB, b Backend) {
	g := b.(Generations)
	first := open(t, b)
	_, want1 := fill(t, first, "old")
	for _, point := range g.RemovePoints() {
		second := openGeneration(t, b, 2)
		fill(t, second, "new")
		g.CrashServing(t, 2, point)
		if err := second.(fold.Generational).Remove(context.Background()); err == nil {
			t.Errorf("a removal that died at %q reported success", point)
		}
		wantServing(t, b, "after a crash at "+point, want1)
		second = openGeneration(t, b, 2)
		remove(t, second)
		if left := g.Traces(t, 2); len(left) > 0 {
			t.Errorf("after a crash at %q %v is left", point, left)
		}
		wantPosition(t, first, ledger0, 10)
	}
}
