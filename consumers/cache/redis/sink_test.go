package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/test/harness"
)

var ledger = consumers.TopicPartition{Topic: sinktest.TopicLedger, Partition: 2}

func claim(t testing.TB, s fold.Sink, tp consumers.TopicPartition) fold.Claim {
	t.Helper()
	c, err := s.Claim(context.Background(), tp)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// account is a ledger's state.
func account(key string, version int64, cacheKeys ...string) fold.Change {
	return fold.Change{Key: key, CacheKeys: cacheKeys, Stored: fold.Stored{Version: version, EventID: fmt.Sprint("e", version), Time: time.Unix(version, 0).UTC(),
		State: projection.State{Exists: true, Values: []any{"owner", big.NewRat(version, 100), []any{version}}}}}
}

func batch(epoch, from int64, changes ...fold.Change) fold.Commit {
	return fold.Commit{TopicPartition: ledger, Epoch: epoch, From: from, Next: from + 10, Changes: map[string][]fold.Change{sinktest.EntityLedger: changes}}
}

func mustCommit(t testing.TB, s fold.Sink, c fold.Commit) {
	t.Helper()
	if err := s.Commit(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

func TestACommitDeletesValuesAndVoidsLeases(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := harness.Redis(t)
	rdb, n := db.Client(t), names(t)
	for _, maxKeys := range []int{maxScriptKeys, 2, 1} {
		s := open(t, db.URL, sinktest.Projections()...)
		s.maxKeys = maxKeys
		for _, key := range []string{"a", "b", "other"} {
			rdb.Set(ctx, n.Value(key), "stale", 0)
			rdb.Set(ctx, n.Lease(key), "token", 0)
		}
		c := claim(t, s, ledger)
		mustCommit(t, s, batch(c.Epoch, max(c.Next, 0), account("k", max(c.Next, 0)+1, "a", "b")))
		for key, want := range map[string]int64{"a": 0, "b": 0, "other": 2} {
			if left := rdb.Exists(ctx, n.Value(key), n.Lease(key)).Val(); left != want {
				t.Errorf("scripts of %d keys: of %q %d of 2 are left, want %d", maxKeys, key, left, want)
			}
		}
	}
}

// An invalidation leaves the least version that a replica may fill in, and never a lower one than there is; so does one that is cut up.
func TestACommitLeavesAFloor(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := harness.Redis(t)
	rdb, n := db.Client(t), names(t)
	for _, maxKeys := range []int{maxScriptKeys, 3, 1} {
		s := open(t, db.URL, sinktest.Projections()...)
		s.maxKeys = maxKeys
		rdb.Del(ctx, n.Floor("a"), n.Floor("b"), n.Floor("c"))
		c := claim(t, s, ledger)
		from := max(c.Next, 0)
		floors := func(version int64, keys ...string) {
			change := account("k", from+1, keys...)
			change.CacheVersion = version
			b := batch(c.Epoch, from, change, account("l", from+1, "c"))
			b.Quarantine = map[string]int64{"q": from}
			mustCommit(t, s, b)
			from += 10
		}
		floors(1000, "a", "b")
		floors(999, "a")
		floors(10_000, "b")
		for key, want := range map[string]string{"a": "0000000000000001000", "b": "0000000000000010000", "c": ""} {
			if got := rdb.Get(ctx, n.Floor(key)).Val(); got != want {
				t.Errorf("scripts of %d keys: the floor of %s is %q, want %q", maxKeys, key, got, want)
			}
		}
		if states, err := s.Load(ctx, sinktest.EntityLedger, []string{"k", "l"}); err != nil || len(states) != 2 || states["k"].Version != from-9 {
			t.Errorf("states %+v, %v", states, err)
		}
		if first, marked := claim(t, s, ledger).Quarantined["q"]; !marked || first != 0 {
			t.Errorf("scripts of %d keys: the mark stands at %d, %v", maxKeys, first, marked)
		}
	}
}

func TestAFencedCommitInvalidatesNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := harness.Redis(t)
	rdb, n := db.Client(t), names(t)
	s := open(t, db.URL, sinktest.Projections()...)
	old := claim(t, s, ledger)
	claim(t, open(t, db.URL, sinktest.Projections()...), ledger)
	rdb.Set(ctx, n.Value("a"), "fresh", 0)
	if err := s.Commit(ctx, batch(old.Epoch, 0, account("k", 1, "a"))); !errors.Is(err, consumers.ErrFenced) {
		t.Errorf("the former owner got %v", err)
	}
	if v := rdb.Get(ctx, n.Value("a")).Val(); v != "fresh" {
		t.Errorf("the value is %q", v)
	}
}

func TestAnOlderStateDoesNotReplaceANewer(t *testing.T) {
	t.Parallel()
	s := open(t, harness.Redis(t).URL, sinktest.Projections()...)
	c := claim(t, s, ledger)
	huge := int64(1)<<53 + 1 // the first that a float cannot tell from its neighbour
	mustCommit(t, s, batch(c.Epoch, 0, account("k", huge)))
	for i, version := range []int64{huge - 1, 9, huge + 1} {
		mustCommit(t, s, batch(c.Epoch, int64(i+1)*10, account("k", version)))
		got, err := s.Load(context.Background(), sinktest.EntityLedger, []string{"k"})
		if want := max(huge, version); err != nil || got["k"].Version != want {
			t.Errorf("after version %d it is %d, want %d, %v", version, got["k"].Version, want, err)
		}
	}
}

func TestAnEmptiedRedisIsClaimedAnewFromTheStart(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := harness.RedisServer(t)
	a, b := open(t, server.URL, sinktest.Projections()...), open(t, server.URL, sinktest.Projections()...)
	zombie := claim(t, a, ledger)
	mustCommit(t, a, batch(zombie.Epoch, 0, account("k", 1)))
	owner := claim(t, b, ledger)
	mustCommit(t, b, batch(owner.Epoch, 10, account("k", 2)))

	server.Kill(t)
	server.Start(t) // empty, and without our scripts
	if err := b.Commit(ctx, batch(owner.Epoch, 20, account("k", 3))); !errors.Is(err, consumers.ErrPosition) {
		t.Fatalf("a commit to the emptied server got %v", err)
	}
	again := claim(t, b, ledger)
	if again.Next != -1 || again.Epoch != zombie.Epoch {
		t.Fatalf("the claim is %+v", again)
	}
	// Promise 4: the epoch is the zombie's again, the token is not.
	if err := a.Commit(ctx, batch(zombie.Epoch, 10, account("k", 99))); !errors.Is(err, consumers.ErrFenced) {
		t.Errorf("the zombie got %v", err)
	}
	mustCommit(t, b, batch(again.Epoch, 0, account("k", 1)))
	got, err := b.Load(ctx, sinktest.EntityLedger, []string{"k"})
	if err != nil || got["k"].Version != 1 {
		t.Errorf("the state is %+v, %v", got, err)
	}
}

func TestAServerThatIsAwayIsTransient(t *testing.T) {
	t.Parallel()
	server := harness.RedisServer(t)
	server.Kill(t)
	s := open(t, strings.Replace(server.URL, "redis://", "redis://user:secret@", 1), sinktest.Projections()...)
	_, err := s.Claim(context.Background(), ledger)
	if err == nil || consumers.Classify(err) != consumers.Transient || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	server.Start(t)
	s = open(t, server.URL, sinktest.Projections()...)
	_ = claim(t, s, ledger)
}

func TestWrongCredentialsAreSystemic(t *testing.T) {
	t.Parallel()
	server := harness.RedisServer(t)
	s := open(t, strings.Replace(server.URL, "redis://", "redis://nobody:secret@", 1), sinktest.Projections()...)
	_, err := s.Claim(context.Background(), ledger)
	if consumers.Classify(err) != consumers.Systemic || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestAServerThatEvictsStatesIsRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := harness.RedisServer(t)
	opts, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(opts)
	t.Cleanup(func() { _ = rdb.Close() })
	for _, c := range []struct {
		policy, limit string
		refused       bool
	}{{"allkeys-lru", "0", false}, {"allkeys-lru", "100mb", true}, {"allkeys-random", "100mb", true}, {"volatile-lru", "100mb", false}, {"noeviction", "100mb", false}} {
		if err := errors.Join(rdb.ConfigSet(ctx, "maxmemory-policy", c.policy).Err(), rdb.ConfigSet(ctx, "maxmemory", c.limit).Err()); err != nil {
			t.Fatal(err)
		}
		_, err := open(t, server.URL, sinktest.Projections()...).Claim(ctx, ledger)
		if errors.Is(err, ErrEviction) != c.refused || (consumers.Classify(err) == consumers.Systemic) != c.refused || !c.refused && err != nil {
			t.Errorf("%s with %s: %v", c.policy, c.limit, err)
		}
	}
}

func TestAServerThatDoesNotTellItsPolicyIsWarnedOf(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := harness.RedisServer(t)
	opts, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(opts)
	t.Cleanup(func() { _ = rdb.Close() })
	if err := rdb.Do(ctx, "ACL", "SETUSER", "sink", "on", ">pw", "~*", "+@all", "-@admin").Err(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	s, err := Open(Config{URL: strings.Replace(server.URL, "redis://", "redis://sink:pw@", 1), Projections: sinktest.Projections(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_ = claim(t, s, ledger)
	if !strings.Contains(log.String(), "maxmemory-policy") {
		t.Errorf("the log says %q", log.String())
	}
}

// renamed is a projection with another digest.
type renamed struct{ fold.Projection }

func (r renamed) Digest() string { return "other" }

func TestStatesOfOtherDeclarationsAreRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := harness.Redis(t)
	all := sinktest.Projections()
	s := open(t, db.URL, all...)
	if err := s.Commit(ctx, fold.Commit{TopicPartition: ledger, Epoch: claim(t, s, ledger).Epoch, From: 0, Next: 1}); err != nil {
		t.Fatal(err)
	}
	for _, projections := range [][]fold.Projection{all[:1], append([]fold.Projection{renamed{all[0]}}, all[1:]...)} {
		_, err := open(t, db.URL, projections...).Claim(ctx, ledger)
		if !errors.Is(err, ErrDeclaration) || consumers.Classify(err) != consumers.Systemic {
			t.Errorf("got %v", err)
		}
	}
	next, err := Open(Config{URL: db.URL, Prefix: "test", Generation: 2, Projections: all[:1]})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	_ = claim(t, next, ledger)
}

func TestALargeBatchIsCutUpAndWritesStatesAfterTheirInvalidations(t *testing.T) {
	t.Parallel()
	s := open(t, harness.Redis(t).URL, sinktest.Projections()...)
	s.maxKeys, s.maxBytes = 5, 400
	var changes []fold.Change
	for i := range int64(20) {
		var keys []string
		for j := range i {
			keys = append(keys, fmt.Sprintf("c%d-%d", i, j))
		}
		changes = append(changes, account(fmt.Sprintf("k%02d", i), i+1, keys...))
	}
	c := batch(1, 0, changes...)
	c.Quarantine, c.Lifted = map[string]int64{"q1": 1, "q2": 2}, []string{"q2", "q3"}
	parts, err := s.plan(c)
	if err != nil {
		t.Fatal(err)
	}
	gone, written, marks := map[string]bool{}, 0, map[any]any{}
	for i, p := range parts {
		if p.keys() > s.maxKeys || p.bytes > s.maxBytes {
			t.Errorf("part %d has %d keys and %d bytes", i, p.keys(), p.bytes)
		}
		for _, name := range p.cached {
			gone[name] = true
		}
		for range p.states {
			for _, key := range changes[written].CacheKeys {
				if !gone[s.names.Value(key)] || !gone[s.names.Lease(key)] {
					t.Errorf("part %d writes %s before %s is invalidated", i, changes[written].Key, key)
				}
			}
			written++
		}
		for q := range slices.Chunk(p.marks, 2) {
			if written < len(changes) {
				t.Errorf("part %d changes the mark of %s before every state is written", i, q[0])
			}
			marks[q[0]] = q[1]
		}
	}
	if len(parts) < 20 || written != 20 || !maps.Equal(marks, map[any]any{"q1": "+1", "q2": "=2", "q3": ""}) {
		t.Errorf("%d parts write %d states and marks %v", len(parts), written, marks)
	}
}
