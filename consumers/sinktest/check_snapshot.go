package sinktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

func snapshotChecks() []check {
	var all []check
	for _, c := range []struct {
		name string
		run  func(testing.TB, Backend)
	}{
		{"a snapshot stands still while commits go on", checkSnapshotStill},
		{"a snapshot holds no commit up", checkSnapshotLetsCommit},
		{"positions and states of a snapshot belong together", checkSnapshotTogether},
		{"a snapshot hands over every value", checkSnapshotValues},
		{"a snapshot hands over every key once", checkSnapshotKeys},
		{"a state that is there twice comes twice", checkSnapshotDouble},
		{"a snapshot ends when it is told to", checkSnapshotEnds},
	} {
		all = append(all, offered(c.name, func(o Offers) bool { return o.Snapshots }, c.run))
	}
	return all
}

// snapshot opens one, which is closed at the end of the check at the latest.
func snapshot(t testing.TB, s fold.Sink) fold.Snapshot {
	t.Helper()
	snap, err := s.(fold.Snapshotter).Snapshot(context.Background())
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	t.Cleanup(func() { _ = snap.Close() })
	return snap
}

// states reads an entity of a snapshot. A key that comes more than once fails the check.
func states(t testing.TB, snap fold.Snapshot, entity string) map[string]fold.Stored {
	t.Helper()
	got := map[string]fold.Stored{}
	err := snap.States(context.Background(), entity, func(key string, s fold.Stored) error {
		if _, twice := got[key]; twice {
			t.Errorf("the snapshot hands over %q twice", key)
		}
		got[strings.Clone(key)] = s
		return nil
	})
	if err != nil {
		t.Fatalf("states of %s: %v", entity, err)
	}
	return got
}

func wantPositions(t testing.TB, what string, snap fold.Snapshot, want map[consumers.TopicPartition]int64) {
	t.Helper()
	if got := snap.Positions(); !maps.Equal(got, want) {
		t.Errorf("%s: positions are %v, want %v", what, got, want)
	}
}

func checkSnapshotStill(t testing.TB, b Backend) {
	s := open(t, b)
	empty := snapshot(t, s)
	wantPositions(t, "an empty store", empty, nil)
	c, was := before(t, s)
	claim(t, s, ledger1) // nothing is committed of it
	first := snapshot(t, s)
	commit(t, s, second(c.Epoch))
	is := afterSecond()
	is["b"] = deleted(3)
	later := snapshot(t, s)
	wantPositions(t, "before the second batch", first, map[consumers.TopicPartition]int64{ledger0: 2})
	wantPositions(t, "after it", later, map[consumers.TopicPartition]int64{ledger0: 6})
	wantStates(t, "after the second batch", states(t, later, EntityLedger), is)
	wantStates(t, "another entity", states(t, later, EntityTally), nil)
	if first.Exact() {
		wantStates(t, "before the second batch", states(t, first, EntityLedger), was)
		wantStates(t, "the same, read again", states(t, first, EntityLedger), was)
		wantStates(t, "an empty store", states(t, empty, EntityLedger), nil)
	}
	for _, snap := range []fold.Snapshot{first, later} {
		if err := snap.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// checkSnapshotLetsCommit commits in the middle of reading.
func checkSnapshotLetsCommit(t testing.TB, b Backend) {
	s := open(t, b)
	c, was := before(t, s)
	snap := snapshot(t, s)
	got, from := map[string]fold.Stored{}, int64(2)
	err := snap.States(context.Background(), EntityLedger, func(key string, st fold.Stored) error {
		got[strings.Clone(key)] = st
		from++
		return s.Commit(context.Background(), put(ledger0, c.Epoch, from-1, from, change(fmt.Sprint("z", from), ledger("zoe", from, from-1), false)))
	})
	if err != nil {
		t.Fatalf("commit while a snapshot is read: %v", err)
	}
	if snap.Exact() {
		wantStates(t, "states", got, was)
	}
	wantPosition(t, s, ledger0, from)
}

// checkSnapshotTogether takes snapshots while a lane commits. Every batch gives one key the version of the position after it.
func checkSnapshotTogether(t testing.TB, b Backend) {
	const batches, snapshots = 60, 15
	s := open(t, b)
	done := make(chan error, 1)
	go func() { done <- commitMany(s, ledger0, "k", 1, batches) }()
	for range snapshots {
		snap := snapshot(t, s)
		at, version := snap.Positions()[ledger0], states(t, snap, EntityLedger)["k"].Version
		if version < at || version > at && snap.Exact() {
			t.Errorf("the position is %d, the state has version %d (exact: %t)", at, version, snap.Exact())
		}
		if err := snap.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := <-done; err != nil {
		t.Fatalf("commit beside snapshots: %v", err)
	}
}

func checkSnapshotValues(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, wide0)
	want := map[string]fold.Stored{}
	var changes []fold.Change
	for column, values := range wideValues {
		for i, v := range append([]any{nil}, values...) {
			k := fmt.Sprintf("%s-%02d", column, i)
			want[k] = wide(column, v, int64(len(want)))
			changes = append(changes, fold.Change{Key: k, Stored: want[k]})
		}
	}
	commit(t, s, fold.Commit{TopicPartition: wide0, Epoch: c.Epoch, Next: int64(len(want)), Changes: map[string][]fold.Change{EntityWide: sorted(changes)}})
	got := states(t, snapshot(t, s), EntityWide)
	wantStates(t, "snapshot", got, want)
	wantStates(t, "what was handed over before", got, want) // and is not written to afterwards
}

func checkSnapshotKeys(t testing.TB, b Backend) {
	const n = 3000
	s := open(t, b)
	c := claim(t, s, ledger0)
	want := map[string]fold.Stored{}
	var changes []fold.Change
	for i := range int64(n) {
		k := fmt.Sprintf("key-%05d ключ/🔑 ' \" \\ %%", i)
		switch i {
		case 7:
			k = strings.Repeat("long", 2048)
		case 8:
			k = strings.Repeat("long", 2047) + "ger?"
		}
		want[k] = ledger("someone", i, i)
		if i%10 == 0 {
			want[k] = deleted(i)
		}
		changes = append(changes, change(k, want[k], false))
	}
	commit(t, s, put(ledger0, c.Epoch, 0, n, sorted(changes)...))
	s = open(t, b)
	wantStates(t, "snapshot", states(t, snapshot(t, s), EntityLedger), want)
}

func checkSnapshotDouble(t testing.TB, b Backend) {
	planter, ok := b.(StatePlanter)
	if !ok {
		return // This store has no way to hold a state twice.
	}
	s := open(t, b)
	before(t, s)
	planter.DoubleState(t, EntityLedger, "b")
	count := map[string]int{}
	err := snapshot(t, s).States(context.Background(), EntityLedger, func(key string, _ fold.Stored) error {
		count[strings.Clone(key)]++
		return nil
	})
	if err != nil || !maps.Equal(count, map[string]int{"a": 1, "b": 2}) {
		t.Errorf("the snapshot hands over %v, %v; b is there twice", count, err)
	}
}

func checkSnapshotEnds(t testing.TB, b Backend) {
	s := open(t, b)
	before(t, s)
	snap := snapshot(t, s)
	enough, calls := errors.New("enough"), 0
	err := snap.States(context.Background(), EntityLedger, func(string, fold.Stored) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("yield had enough after %d calls, and the error is %v", calls, err)
	}
	if err := snap.States(context.Background(), "no_such_entity", func(string, fold.Stored) error { return nil }); err == nil {
		t.Error("an entity that does not exist has states")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := snapshot(t, s).States(ctx, EntityLedger, func(string, fold.Stored) error { return nil }); err == nil {
		t.Error("states were read although the context had ended")
	}
}
