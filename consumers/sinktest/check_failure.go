package sinktest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

func failureChecks() []check {
	return []check{
		one("a batch that fails in part changes nothing", checkPartialFailure),
		one("an unknown entity changes nothing", checkUnknownEntity),
		one("a cancelled commit is whole or nothing", checkCancelled),
		one("a crash inside a commit is whole or nothing", checkCrash),
	}
}

// before stores a first batch and returns what readers must go on seeing if the second changes nothing.
func before(t testing.TB, s fold.Sink) (fold.Claim, map[string]fold.Stored) {
	t.Helper()
	c := claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 0, 2, change("a", ledger("ann", 100, 0), false), change("b", ledger("bob", 5, 1), false)))
	return c, map[string]fold.Stored{"a": ledger("ann", 100, 0), "b": ledger("bob", 5, 1)}
}

// second is the batch after before: it changes, deletes, creates and quarantines.
func second(epoch int64) fold.Commit {
	c := put(ledger0, epoch, 2, 6, change("a", ledger("amy", 200, 2), true), change("b", deleted(3), true), change("c", ledger("cat", 1, 4), false))
	c.Quarantine = map[string]int64{"q": 5}
	return c
}

func afterSecond() map[string]fold.Stored {
	return map[string]fold.Stored{"a": ledger("amy", 200, 2), "c": ledger("cat", 1, 4)}
}

// wantUnchanged fails the check if anything of a failed second batch can be seen.
func wantUnchanged(t testing.TB, b Backend, s fold.Sink, want map[string]fold.Stored) {
	t.Helper()
	wantPosition(t, s, ledger0, 2)
	wantLedger(t, b, "after the failed batch", want)
	wantStates(t, "load after the failed batch", load(t, s, EntityLedger, "a", "b", "c", "d"), want)
	if keeper, ok := b.(EventKeeper); ok {
		wantEvents(t, keeper.DumpEvents(t, TopicLedger), put(ledger0, 1, 0, 2).Events)
	}
}

func checkPartialFailure(t testing.TB, b Backend) {
	s := open(t, b)
	c, want := before(t, s)
	bad := second(c.Epoch)
	broken := ledger("dan", 1, 5)
	broken.Values = []any{int64(1), "not a decimal", 3.5}
	bad.Changes[EntityLedger] = append(bad.Changes[EntityLedger], change("d", broken, false))
	if err := s.Commit(context.Background(), bad); err == nil {
		t.Error("a batch with a value of the wrong kind was committed")
	}
	wantUnchanged(t, b, s, want)
	commit(t, s, second(c.Epoch))
	wantPosition(t, s, ledger0, 6)
	wantLedger(t, b, "after the repaired batch", afterSecond())
}

func checkUnknownEntity(t testing.TB, b Backend) {
	s := open(t, b)
	c, want := before(t, s)
	bad := second(c.Epoch)
	bad.Changes["no_such_entity"] = []fold.Change{change("z", ledger("zoe", 1, 5), false)}
	if err := s.Commit(context.Background(), bad); err == nil {
		t.Error("a batch with an unknown entity was committed")
	}
	wantUnchanged(t, b, s, want)
	commit(t, s, second(c.Epoch))
	wantLedger(t, b, "after the repaired batch", afterSecond())
}

// checkCancelled cancels commits before they begin and somewhere within.
func checkCancelled(t testing.TB, b Backend) {
	s := open(t, b)
	c, want := before(t, s)
	for _, after := range []time.Duration{0, 20 * time.Microsecond, 200 * time.Microsecond, time.Millisecond} {
		ctx, cancel := context.WithTimeout(context.Background(), after)
		err := s.Commit(ctx, second(c.Epoch))
		cancel()
		all, perr := s.Positions(context.Background())
		if perr != nil {
			t.Fatalf("positions after a cancelled commit: %v", perr)
		}
		if all[ledger0] == 6 { // It went through, whatever was reported.
			wantLedger(t, b, "after a commit that went through", afterSecond())
			refused(t, s, second(c.Epoch), consumers.ErrPosition)
			return
		}
		if err == nil {
			t.Fatalf("commit returned nil and the position is %d", all[ledger0])
		}
		wantUnchanged(t, b, s, want)
	}
	commit(t, s, second(c.Epoch))
	wantLedger(t, b, "after the repeated batch", afterSecond())
}

// Promise 4: crash at any point.
func checkCrash(t testing.TB, b Backend) {
	crasher, ok := b.(Crasher)
	if !ok {
		checkReopenAfter(t, b)
		return
	}
	points := crasher.CrashPoints()
	if len(points) == 0 {
		t.Fatal("a backend that can crash names no point")
	}
	s := open(t, b)
	c := claim(t, s, ledger0)
	for i, point := range points {
		from := int64(i) * 2
		batch := put(ledger0, c.Epoch, from, from+2, change("a", ledger("ann", from, from), i > 0), change("b", ledger("bob", from, from+1), i > 0))
		crasher.CrashAt(t, point)
		if err := s.Commit(context.Background(), batch); err == nil {
			t.Errorf("a commit that died at %q reported success", point)
		}
		s = open(t, b)
		c = claim(t, s, ledger0)
		finish(t, s, c, batch, point)
		wantPosition(t, s, ledger0, from+2)
		wantLedger(t, b, "after a crash at "+point, map[string]fold.Stored{"a": ledger("ann", from, from), "b": ledger("bob", from, from+1)})
	}
	if keeper, ok := b.(EventKeeper); ok {
		wantEvents(t, keeper.DumpEvents(t, TopicLedger), put(ledger0, 1, 0, int64(len(points))*2).Events)
	}
}

// finish delivers a batch again after a crash, as the new owner of the partition would.
func finish(t testing.TB, s fold.Sink, c fold.Claim, batch fold.Commit, point string) {
	t.Helper()
	batch.Epoch = c.Epoch
	switch {
	case c.Next == batch.Next:
		refused(t, s, batch, consumers.ErrPosition)
	case c.Next == batch.From, c.Next == -1 && batch.From == 0:
		commit(t, s, batch)
	default:
		t.Fatalf("after a crash at %q the position is %d, want %d or %d", point, c.Next, batch.From, batch.Next)
	}
}

// checkReopenAfter is what can be checked of crashes without Crasher: what was acknowledged is there after a restart that nobody
// announced.
func checkReopenAfter(t testing.TB, b Backend) {
	s := open(t, b)
	c, _ := before(t, s)
	commit(t, s, second(c.Epoch))
	s = open(t, b)
	wantPosition(t, s, ledger0, 6)
	wantLedger(t, b, "after a restart", afterSecond())
	wantStates(t, "load after a restart", load(t, s, EntityLedger, "b"), map[string]fold.Stored{"b": deleted(3)})
	if c := claim(t, s, ledger0); c.Next != 6 || c.Quarantined["q"] != 5 {
		t.Errorf("claim after a restart is %+v, want next 6 and q quarantined at 5", c)
	}
}

// wantEvents compares the events kept with those delivered.
func wantEvents(t testing.TB, got, want []consumers.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d events are kept, want %d", len(got), len(want))
		return
	}
	for i := range want {
		if err := sameEvent(got[i], want[i]); err != nil {
			t.Errorf("event %d, offset %d: %v", i, want[i].Offset, err)
		}
	}
}

func sameEvent(got, want consumers.Event) error {
	switch {
	case got.TopicPartition != want.TopicPartition || got.Offset != want.Offset:
		return errors.New("another place: " + got.Topic)
	case got.Key != want.Key || got.ID != want.ID || got.Type != want.Type:
		return errors.New("key, id or type differ: " + got.Key + ", " + got.ID + ", " + got.Type)
	case got.Seq != want.Seq || !got.Time.Equal(want.Time):
		return errors.New("version or time differ: " + got.Time.String())
	case !bytes.Equal(got.Payload, want.Payload):
		return errors.New("payload differs")
	}
	return nil
}
