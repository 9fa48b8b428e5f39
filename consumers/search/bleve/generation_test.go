package bleve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/search"
)

func openGeneration(t testing.TB, path string, generation int) *Sink {
	t.Helper()
	s, err := Open(Config{Path: path, Generation: generation, Projections: []fold.Projection{widget, gadget}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Promise 8: the old generation serves while the new one is built beside it, and neither can be taken for the other.
func TestPromise8_GenerationsStandBesideEachOther(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "search")
	old := openGeneration(t, path, 1)
	fill(t, old, things, "widget", map[string]fold.Stored{"a": made(1, "old", "s", 1)})
	if err := os.WriteFile(filepath.Join(path, "notes.txt"), []byte("an operator's"), 0o600); err != nil {
		t.Fatal(err)
	}
	next := openGeneration(t, path, 2)
	if c := claim(t, next, things); c.Epoch != 1 || c.Next != -1 {
		t.Errorf("the new generation begins with %+v", c)
	}
	fill(t, next, things, "widget", map[string]fold.Stored{"a": made(1, "new", "s", 1), "b": made(2, "new", "s", 2)})
	if _, err := os.Stat(path + ".g2/index"); err != nil {
		t.Errorf("the new generation is not beside the old one: %v", err)
	}
	for s, want := range map[*Sink]uint64{old: 1, next: 2} {
		if res, err := s.Search(ctx, search.Query{Entity: "widget"}); err != nil || res.Total != want {
			t.Errorf("generation %d has %+v, %v", s.place.generation, res, err)
		}
	}
	if err := old.Remove(ctx); !errors.Is(err, fold.ErrServing) {
		t.Errorf("removing generation 1 before any other served: %v", err)
	}
	for range 2 {
		if err := next.Serve(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := next.Remove(ctx); !errors.Is(err, fold.ErrServing) {
		t.Errorf("removing what serves: %v", err)
	}
	for range 2 {
		if err := old.Remove(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := old.Load(ctx, "widget", []string{"a"}); !errors.Is(err, ErrClosed) {
		t.Errorf("what was removed answers: %v", err)
	}
	if left, err := os.ReadDir(path); err != nil || len(left) != 1 || left[0].Name() != "notes.txt" {
		t.Errorf("of the old generation's directory is left %v, %v", left, err)
	}
	if got, err := next.Load(ctx, "widget", []string{"a", "b"}); err != nil || len(got) != 2 {
		t.Errorf("the new generation has %v, %v", got, err)
	}
}

func TestARollbackServesTheOldGenerationAgain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "search")
	old, next := openGeneration(t, path, 1), openGeneration(t, path, 2)
	if err := errors.Join(next.Serve(ctx), old.Serve(ctx), next.Remove(ctx)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".g2"); !os.IsNotExist(err) {
		t.Errorf("the removed generation left its directory: %v", err)
	}
	if err := old.Remove(ctx); !errors.Is(err, fold.ErrServing) {
		t.Errorf("removing what serves again: %v", err)
	}
}

// A crash in the middle of Remove leaves no index that looks whole.
func TestACrashInTheMiddleOfARemovalLeavesNothingThatLooksWhole(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "search")
	s := openGeneration(t, path, 2)
	fill(t, s, things, "widget", map[string]fold.Stored{"a": made(1, "w", "s", 1)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Moved away, and half of it deleted.
	if err := errors.Join(os.Mkdir(path+".g2/gone-1", 0o750), os.Rename(path+".g2/index", path+".g2/gone-1/index"), os.Remove(path+".g2/gone-1/index/index_meta.json")); err != nil {
		t.Fatal(err)
	}
	again := openGeneration(t, path, 2)
	if c := claim(t, again, things); c.Epoch != 1 || c.Next != -1 {
		t.Errorf("what is opened after the crash has %+v", c)
	}
	if left, _ := filepath.Glob(path + ".g2/gone-*"); len(left) != 0 {
		t.Errorf("the crash left %v", left)
	}
	if err := again.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".g2"); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestAPointerThatIsNoNumberRemovesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "search")
	s := openGeneration(t, path, 2)
	for _, text := range []string{"", "two", "0", "-1"} {
		if err := os.WriteFile(path+".serving", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(context.Background()); err == nil || !strings.Contains(err.Error(), "search.serving") {
			t.Errorf("with %q: %v", text, err)
		}
	}
	if _, err := s.Load(context.Background(), "widget", nil); err != nil {
		t.Errorf("it was closed all the same: %v", err)
	}
}

// states are all states of an entity that a snapshot shows.
func states(t testing.TB, snap fold.Snapshot, entity string) map[string]fold.Stored {
	t.Helper()
	out := map[string]fold.Stored{}
	err := snap.States(context.Background(), entity, func(key string, s fold.Stored) error {
		if _, twice := out[key]; twice {
			t.Errorf("%s %q comes twice", entity, key)
		}
		out[key] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A snapshot goes on showing its moment, states and positions, whatever is committed and merged meanwhile.
func TestASnapshotShowsOneMoment(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, t.TempDir())
	want := map[string]fold.Stored{"gone": {Version: 3, EventID: "d", Time: at}, "": made(2, "no key", "s", 2)}
	for i := range 3 * atOnce {
		want[fmt.Sprint("k", i)] = made(int64(i+1), "w", "s", int64(i))
	}
	fill(t, s, things, "widget", want)
	fill(t, s, consumers.TopicPartition{Topic: "things", Partition: 4}, "gadget", map[string]fold.Stored{"k1": made(1, "another", "s", 1)})
	_ = claim(t, s, consumers.TopicPartition{Topic: "things", Partition: 5}) // and never committed
	snap, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		fill(t, s, things, "widget", map[string]fold.Stored{"k1": made(int64(1000+n), "later", "s", 9), fmt.Sprint("new", n): made(1, "later", "s", 9)})
	}
	if err := snap.States(ctx, "widget", func(string, fold.Stored) error { // commits go on in the middle, too
		fill(t, s, things, "widget", map[string]fold.Stored{"k2": made(2000, "later", "s", 9)})
		return errEnough
	}); !errors.Is(err, errEnough) {
		t.Errorf("yield's error comes back as %v", err)
	}
	if got := states(t, snap, "widget"); !reflect.DeepEqual(got, want) {
		t.Errorf("%d states, want %d", len(got), len(want))
	}
	if got := states(t, snap, "gadget"); len(got) != 1 || got["k1"].Version != 1 {
		t.Errorf("the other entity has %v", got)
	}
	positions := map[consumers.TopicPartition]int64{things: 10, {Topic: "things", Partition: 4}: 10}
	if !snap.Exact() || !reflect.DeepEqual(snap.Positions(), positions) {
		t.Errorf("exact %v, positions %v", snap.Exact(), snap.Positions())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := snap.States(ctx, "widget", func(string, fold.Stored) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close of the sink: %v", err)
	}
	if err := errors.Join(snap.Close(), snap.Close()); err != nil {
		t.Error(err)
	}
}

var errEnough = errors.New("enough")

func TestReplaceStoresAnEqualVersionAndNoOlderOne(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, t.TempDir())
	fill(t, s, things, "widget", map[string]fold.Stored{"same": made(5, "wrong", "s", 1), "later": made(9, "right", "s", 1), "earlier": made(3, "late", "s", 1)})
	c := claim(t, s, things)
	right := map[string]fold.Stored{"same": made(5, "right", "s", 1), "later": made(8, "wrong", "s", 1), "earlier": made(4, "right", "s", 1), "lost": made(2, "right", "s", 1)}
	replace := fold.Commit{TopicPartition: things, Epoch: c.Epoch, From: c.Next, Next: c.Next, Replace: true, Changes: map[string][]fold.Change{"widget": changes(right)}}
	for range 2 {
		if err := s.Commit(ctx, replace); err != nil {
			t.Fatal(err)
		}
	}
	right["later"] = made(9, "right", "s", 1)
	got, err := s.Load(ctx, "widget", []string{"same", "later", "earlier", "lost"})
	if err != nil || !reflect.DeepEqual(got, right) {
		t.Errorf("got %v, %v", got, err)
	}
	if res, err := s.Search(ctx, search.Query{Entity: "widget", Text: "name:wrong"}); err != nil || res.Total != 0 {
		t.Errorf("searches find what was wrong: %+v, %v", res, err)
	}
	if positions, _ := s.Positions(ctx); positions[things] != c.Next {
		t.Errorf("the position is %v, was %d", positions, c.Next)
	}
	never := consumers.TopicPartition{Topic: "things", Partition: 7}
	replace.TopicPartition, replace.Epoch, replace.From, replace.Next = never, claim(t, s, never).Epoch, 0, 0
	if err := s.Commit(ctx, replace); err != nil {
		t.Fatal(err)
	}
	if c := claim(t, s, never); c.Next != -1 {
		t.Errorf("replacing has moved the position of a partition that was never committed to %d", c.Next)
	}
}
