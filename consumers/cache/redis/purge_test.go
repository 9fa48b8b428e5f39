package redis

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/sinktest"
)

// cdn takes so many keys at a time, and can be away.
type cdn struct {
	atOnce int
	away   bool
	asked  func()
	taken  []string
}

var errAway = errors.New("the CDN is away")

func (c *cdn) Purge(_ context.Context, keys []string) (int, error) {
	c.asked()
	if c.away {
		return 0, errAway
	}
	n := min(c.atOnce, len(keys))
	c.taken = append(c.taken, keys[:n]...)
	if n < len(keys) {
		return n, errAway
	}
	return n, nil
}

func (c *cdn) Close() error { return nil }

func openPurging(t *testing.T, url string, c *cdn) *Sink {
	t.Helper()
	s, err := Open(Config{URL: url, Prefix: "test", Projections: sinktest.Projections(), Purger: c, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// A batch is stored when all its keys are purged, and at the time of the purge the value is gone from here: who fills the CDN again is not served
// what was.
func TestKeysArePurgedBetweenTheirValuesAndTheirStates(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := &cdn{atOnce: 2}
	s := openPurging(t, mini(t), c)
	s.maxKeys = 4
	n := names(t)
	keys := []string{"a", "b", "c", "d", "e"}
	for _, k := range keys {
		s.rdb.Set(ctx, n.Value(k), "stale", 0)
		s.rdb.Set(ctx, n.Lease(k), "token", 0)
	}
	asked := 0
	c.asked = func() {
		asked++
		for _, k := range keys {
			if s.rdb.Exists(ctx, n.Value(k), n.Lease(k)).Val() != 0 {
				t.Errorf("%s is purged while its old value is served here", k)
			}
		}
		if s.rdb.Exists(ctx, n.State(sinktest.EntityLedger, "k")).Val() != 0 {
			t.Error("the state is stored before its keys are purged")
		}
	}
	owner := claim(t, s, ledger)
	b := batch(owner.Epoch, 0, account("k", 1, keys...), account("l", 1, "a", "e"))
	for range 2 {
		if err := s.Commit(ctx, b); !errors.Is(err, errAway) {
			t.Fatalf("committed although not everything is purged: %v", err)
		}
	}
	mustCommit(t, s, b)
	if !slices.Equal(c.taken, keys) || asked != 3 {
		t.Errorf("purged %q in %d calls: each try goes on where the last one stood", c.taken, asked)
	}
}

// The purge of a batch is not forgotten by a crash: nothing of it was stored, so the next owner's fold makes the same changes.
func TestAPurgeOutlivesACrash(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url, c := mini(t), &cdn{atOnce: 10, away: true, asked: func() {}}
	s := openPurging(t, url, c)
	owner := claim(t, s, ledger)
	if err := s.Commit(ctx, batch(owner.Epoch, 0, account("k", 1, "a"))); !errors.Is(err, errAway) {
		t.Fatal(err)
	}
	c.away = false
	next := openPurging(t, url, c) // the first one was killed
	owner = claim(t, next, ledger)
	if stored, err := next.Load(ctx, sinktest.EntityLedger, []string{"k"}); owner.Next != -1 || err != nil || len(stored) != 0 {
		t.Fatalf("position %d, states %v, %v: the change would not be seen again", owner.Next, stored, err)
	}
	mustCommit(t, next, batch(owner.Epoch, 0, account("k", 1, "a")))
	if !slices.Equal(c.taken, []string{"a"}) {
		t.Errorf("purged %q", c.taken)
	}
}

// Who was replaced purges nothing: it is refused before it asks.
func TestAFormerOwnerPurgesNothing(t *testing.T) {
	t.Parallel()
	url, c := mini(t), &cdn{atOnce: 10, asked: func() {}}
	s := openPurging(t, url, c)
	old := claim(t, s, ledger)
	claim(t, openPurging(t, url, c), ledger)
	if err := s.Commit(t.Context(), batch(old.Epoch, 0, account("k", 1, "a"))); !errors.Is(err, consumers.ErrFenced) || len(c.taken) != 0 {
		t.Errorf("%v, purged %q", err, c.taken)
	}
}

// A try that wrote a part of the states is repeated with fewer changes, for what is written is seen as done: what was purged stays so.
func TestARepetitionHasFewerKeysToPurge(t *testing.T) {
	t.Parallel()
	c := &cdn{atOnce: 10, asked: func() {}}
	s := openPurging(t, mini(t), c)
	s.maxKeys = 3 // a script a state
	owner := claim(t, s, ledger)
	s.crash = func(point string) error {
		if point == "after a script" {
			return errAway
		}
		return nil
	}
	if err := s.Commit(t.Context(), batch(owner.Epoch, 0, account("k", 1, "a"), account("l", 1, "b"))); !errors.Is(err, errAway) {
		t.Fatal(err)
	}
	s.crash = nil
	mustCommit(t, s, batch(owner.Epoch, 0, account("l", 1, "b")))
	if !slices.Equal(c.taken, []string{"a", "b"}) {
		t.Errorf("purged %q", c.taken)
	}
}
