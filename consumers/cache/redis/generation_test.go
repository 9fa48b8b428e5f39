package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/cache"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/test/harness"
)

func pointer(t testing.TB, s *Sink) string {
	t.Helper()
	text, _ := s.rdb.Get(context.Background(), s.names.Serving()).Result()
	return text
}

func mustServe(t testing.TB, s *Sink) {
	t.Helper()
	if err := s.Serve(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Promise 8: readers are not sent to a generation that nobody feeds, even if the server lost all it had.
func TestALostPointerIsPutBackBeforeAnythingIsInvalidated(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := harness.Redis(t)
	rdb := db.Client(t)
	old, s := open(t, db.URL, sinktest.Projections()...), openGeneration(t, db.URL, 2, sinktest.Projections()...)
	c := claim(t, s, ledger)
	mustServe(t, s)
	if err := rdb.FlushDB(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, batch(c.Epoch, 0, account("a", 1, "k"))); !errors.Is(err, consumers.ErrPosition) || pointer(t, s) != "" {
		t.Errorf("a commit to an emptied server: %v, pointer %q", err, pointer(t, s))
	}
	followed := claim(t, old, ledger)
	mustCommit(t, old, batch(followed.Epoch, 0, account("a", 1, "k")))
	if pointer(t, s) != "" {
		t.Errorf("a generation that does not serve has put %q there", pointer(t, s))
	}
	c = claim(t, s, ledger)
	if pointer(t, s) != "2" {
		t.Errorf("after the claim the pointer is %q", pointer(t, s))
	}
	rdb.Del(ctx, s.names.Serving())
	mustCommit(t, s, batch(c.Epoch, 0, account("a", 1, "k")))
	if pointer(t, s) != "2" {
		t.Errorf("after the commit the pointer is %q", pointer(t, s))
	}
	mustCommit(t, old, batch(followed.Epoch, 10, account("a", 2, "k")))
	mustServe(t, old) // a rollback, of which s learns with its next commit
	mustCommit(t, s, batch(c.Epoch, 10, account("a", 2, "k")))
	rdb.Del(ctx, s.names.Serving())
	mustCommit(t, s, batch(c.Epoch, 20, account("a", 3, "k")))
	if pointer(t, s) != "" {
		t.Errorf("what was rolled back puts %q there", pointer(t, s))
	}
}

// A process that starts on an emptied server knows from elsewhere that it serves.
func TestALostPointerIsPutBackByWhoIsSaidToServe(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	serves := false
	s, err := Open(Config{URL: mini(t), Prefix: "test", Generation: 2, Projections: sinktest.Projections(), Serves: func() bool { return serves }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mustServe(t, s)
	for _, serves = range []bool{false, true, false} {
		s.rdb.FlushDB(ctx)
		claimed := claim(t, s, ledger)
		if put := pointer(t, s) == "2"; put != serves {
			t.Errorf("serves: %v, and a claim puts %q there", serves, pointer(t, s))
		}
		s.rdb.Del(ctx, s.names.Serving())
		mustCommit(t, s, batch(claimed.Epoch, 0))
		if put := pointer(t, s) == "2"; put != serves {
			t.Errorf("serves: %v, and a commit puts %q there", serves, pointer(t, s))
		}
	}
}

func TestServeComparesTopicsThatTheGenerationHas(t *testing.T) {
	t.Parallel()
	db := harness.Redis(t)
	old, next := open(t, db.URL, sinktest.Projections()...), openGeneration(t, db.URL, 2, sinktest.Projections()[0])
	gone := consumers.TopicPartition{Topic: sinktest.TopicWide, Partition: 1}
	c := claim(t, old, gone)
	mustCommit(t, old, fold.Commit{TopicPartition: gone, Epoch: c.Epoch, From: 0, Next: 9})
	mustServe(t, next)
	if err := old.Serve(context.Background()); err != nil || pointer(t, old) != "1" {
		t.Errorf("back again: %v, pointer %s", err, pointer(t, old))
	}
	_ = next.rdb.Set(context.Background(), next.names.Serving(), "two", 0)
	if err := next.Serve(context.Background()); err == nil || errors.Is(err, fold.ErrBehind) {
		t.Errorf("with a pointer that is no number: %v", err)
	}
}

// What belongs to another generation, to another cache or to somebody else stays.
func TestRemoveTakesNothingElse(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := harness.Redis(t)
	rdb := db.Client(t)
	s := openGeneration(t, db.URL, 2, sinktest.Projections()...)
	s.removeRate = 1 << 30
	c := claim(t, s, ledger)
	var changes []fold.Change
	for i := range int64(3000) {
		changes = append(changes, account(fmt.Sprintf("%04d", i), i+1, fmt.Sprint("k", i)))
	}
	mustCommit(t, s, batch(c.Epoch, 0, changes...))
	keep := []string{"{test}:1:value:a", "{test}:22:value:a", "{test2}:2:value:a", "{other}:2:state:ledger:a", "{test}:serving", "2:value"}
	for _, name := range keep {
		rdb.Set(ctx, name, "1", 0)
	}
	for range 2 {
		if err := s.Remove(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := rdb.Exists(ctx, keep...).Result(); err != nil || int(n) != len(keep) {
		t.Errorf("%d of %d are left, %v", n, len(keep), err)
	}
	if n, err := rdb.DBSize(ctx).Result(); err != nil || int(n) != len(keep) {
		t.Errorf("%d keys are left, %v", n, err)
	}
}

// Remove takes its time, so that the server has some for others, and ends when it is told to.
func TestRemoveKeepsToItsRate(t *testing.T) {
	t.Parallel()
	s := openGeneration(t, mini(t), 2, sinktest.Projections()...)
	s.removeRate = 1 // the first keys take a minute
	c := claim(t, s, ledger)
	var changes []fold.Change
	for i := range int64(100) {
		changes = append(changes, account(fmt.Sprint(i), i+1))
	}
	mustCommit(t, s, batch(c.Epoch, 0, changes...))
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := s.Remove(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if got := dump(t, s, sinktest.EntityLedger); len(got) != 100 {
		t.Errorf("%d states are left: the positions go first, and a pause comes behind them", len(got))
	}
}

// A prefix may hold what means something in a pattern.
func TestASnapshotFindsItsOwnKeysWhateverThePrefix(t *testing.T) {
	t.Parallel()
	db := harness.Redis(t)
	for _, prefix := range []string{"a?c", "abc", "a[b]c", `a\bc`, "a^b-c"} {
		s, err := Open(Config{URL: db.URL, Prefix: prefix, Projections: sinktest.Projections(), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		mustCommit(t, s, batch(claim(t, s, ledger).Epoch, 0, account(prefix, 1)))
		snap, err := s.Snapshot(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		err = snap.States(context.Background(), sinktest.EntityLedger, func(key string, _ fold.Stored) error { keys = append(keys, key); return nil })
		if err != nil || strings.Join(keys, " ") != prefix {
			t.Errorf("%s: %q, %v", prefix, keys, err)
		}
	}
}

// twice answers SCAN with the keys of earlier answers, too, as a server may whose table changes its size meanwhile.
type twice struct{ before []string }

func (*twice) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*twice) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (h *twice) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if scan, ok := cmd.(*redis.ScanCmd); ok {
			keys, cursor := scan.Val()
			h.before = append(h.before, keys...)
			scan.SetVal(slices.Clone(h.before), cursor)
		}
		return err
	}
}

// Whoever reads a snapshot would take it for a state that is there twice.
func TestASnapshotHandsOverAKeyOnceThatIsFoundTwice(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, harness.Redis(t).URL, sinktest.Projections()...)
	s.rdb.AddHook(&twice{})
	mustCommit(t, s, batch(claim(t, s, ledger).Epoch, 0, account("a", 1), account("b", 2), account("c", 3)))
	for range 5_000 { // others' keys, so that there are pages without any of ours
		s.rdb.Set(ctx, rand.Text(), "", 0)
	}
	snap, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var keys []string
		err := snap.States(ctx, sinktest.EntityLedger, func(key string, _ fold.Stored) error { keys = append(keys, key); return nil })
		if slices.Sort(keys); err != nil || strings.Join(keys, " ") != "a b c" {
			t.Errorf("%q, %v", keys, err)
		}
	}
}

// An event that is delivered again has its version, and changes nothing.
func TestAnEqualVersionReplacesNothingUnlessItIsToldTo(t *testing.T) {
	t.Parallel()
	s := open(t, mini(t), sinktest.Projections()...)
	c := claim(t, s, ledger)
	mustCommit(t, s, batch(c.Epoch, 0, account("a", 5)))
	other := account("a", 5)
	other.EventID = "another"
	mustCommit(t, s, batch(c.Epoch, 10, other))
	if got := dump(t, s, sinktest.EntityLedger)["a"]; got.EventID != "e5" {
		t.Errorf("it is there as %s left it", got.EventID)
	}
}

func TestGenerationsShareNoName(t *testing.T) {
	n, err := cache.Names{Prefix: "test", Generation: 2}.WithDefaults()
	if err != nil || strings.HasPrefix(n.Of(22).All(), n.All()) {
		t.Errorf("%s begins %s, %v", n.All(), n.Of(22).All(), err)
	}
}
