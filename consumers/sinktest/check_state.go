package sinktest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

func stateChecks() []check {
	return []check{
		one("load returns what was stored", checkLoad),
		one("a deleted state keeps its version", checkDelete),
		one("a state deleted before it was stored keeps its version", checkDeleteNew),
		one("keys of any text", checkKeys),
		one("a batch of many keys", checkManyKeys),
		one("one batch changes several entities", checkEntities),
	}
}

// load loads states and fails the check if that fails.
func load(t testing.TB, s fold.Sink, entity string, keys ...string) map[string]fold.Stored {
	t.Helper()
	got, err := s.Load(context.Background(), entity, keys)
	if err != nil {
		t.Fatalf("load %s: %v", entity, err)
	}
	return got
}

func checkLoad(t testing.TB, b Backend) {
	s := open(t, b)
	wantStates(t, "load from a new store", load(t, s, EntityLedger, "a", "b"), nil)
	c := claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 0, 2, change("a", ledger("ann", 100, 0), false), change("b", ledger("bob", 7, 1), false)))
	wantStates(t, "load", load(t, s, EntityLedger, "b", "c"), map[string]fold.Stored{"b": ledger("bob", 7, 1)})
	wantStates(t, "load of another entity", load(t, s, EntityTally, "a"), nil)
	wantStates(t, "load of no keys", load(t, s, EntityLedger), nil)
}

func checkDelete(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 0, 1, change("a", ledger("ann", 100, 0), false)))
	commit(t, s, put(ledger0, c.Epoch, 1, 2, change("a", deleted(1), true)))
	s = open(t, b)
	c = claim(t, s, ledger0)
	wantStates(t, "load of a deleted state", load(t, s, EntityLedger, "a"), map[string]fold.Stored{"a": deleted(1)})
	wantLedger(t, b, "readers after the deletion", nil)
	commit(t, s, put(ledger0, c.Epoch, 2, 3, change("a", ledger("amy", 1, 2), false)))
	want := map[string]fold.Stored{"a": ledger("amy", 1, 2)}
	wantStates(t, "load of a state created again", load(t, s, EntityLedger, "a"), want)
	wantLedger(t, b, "readers after it was created again", want)
}

// checkDeleteNew stores what a batch leaves that creates and deletes a state.
func checkDeleteNew(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	commit(t, s, put(ledger0, c.Epoch, 0, 2, change("a", deleted(1), false)))
	wantStates(t, "load", load(t, s, EntityLedger, "a"), map[string]fold.Stored{"a": deleted(1)})
	wantLedger(t, b, "readers", nil)
}

func checkKeys(t testing.TB, b Backend) {
	keys := []string{
		"plain", "Plain", " with space ", "a/b:c|d", "it's \"quoted\" `here`", `back\slash`, "line\nfeed\ttab", "%d %s {{x}} $1 ?", "ключ", "鍵🔑", "e\u0301", "\u00e9",
		"-1", "0", "null", "*", "_all", "../../up", strings.Repeat("long", 256),
	}
	s := open(t, b)
	c := claim(t, s, ledger0)
	want := map[string]fold.Stored{}
	var changes []fold.Change
	for i, k := range keys {
		want[k] = ledger(k, int64(i), int64(i))
		changes = append(changes, change(k, want[k], false))
	}
	commit(t, s, put(ledger0, c.Epoch, 0, int64(len(keys)), sorted(changes)...))
	wantStates(t, "load", load(t, s, EntityLedger, keys...), want)
	wantLedger(t, b, "readers", want)
}

func checkManyKeys(t testing.TB, b Backend) {
	const n = 5000
	s := open(t, b)
	c := claim(t, s, ledger0)
	want := map[string]fold.Stored{}
	var keys []string
	var changes []fold.Change
	for i := range int64(n) {
		k := fmt.Sprintf("key-%05d", i)
		want[k] = ledger("someone", i, i)
		keys, changes = append(keys, k), append(changes, change(k, want[k], false))
	}
	commit(t, s, put(ledger0, c.Epoch, 0, n, changes...))
	wantStates(t, "load of all", load(t, s, EntityLedger, keys...), want)
	wantLedger(t, b, "readers", want)
}

func checkEntities(t testing.TB, b Backend) {
	s := open(t, b)
	c := claim(t, s, ledger0)
	both := put(ledger0, c.Epoch, 0, 1, change("a", ledger("ann", 100, 0), false))
	tally := fold.Stored{Version: 1, EventID: "e0", Time: at(1)}
	tally.Exists, tally.Values = true, []any{int64(1), at(1)}
	both.Changes[EntityTally] = []fold.Change{{Key: "a", Stored: tally}}
	commit(t, s, both)
	wantLedger(t, b, "the first entity", map[string]fold.Stored{"a": ledger("ann", 100, 0)})
	wantStates(t, "the second entity", b.Dump(t, EntityTally), map[string]fold.Stored{"a": tally})
	wantPosition(t, s, consumers.TopicPartition{Topic: TopicLedger}, 1)
}
