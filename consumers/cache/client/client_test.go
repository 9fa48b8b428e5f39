package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

func small(t *testing.T) (*miniredis.Miniredis, *Client) {
	t.Helper()
	server, err := miniredis.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	c, err := New(Config{URL: "redis://" + server.Addr(), Lease: time.Second, TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return server, c
}

func TestAFillNeedsALiveLease(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server, c := small(t)
	fill := func(lease Lease) bool {
		t.Helper()
		stored, err := c.Fill(ctx, "k", lease, []byte("v"), 0)
		if err != nil {
			t.Fatal(err)
		}
		return stored
	}
	miss := func() Lease {
		t.Helper()
		_, lease, hit, err := c.Get(ctx, "k")
		if err != nil || hit || lease == "" {
			t.Fatal(lease, hit, err)
		}
		return lease
	}
	if fill("") || fill("made up") || fill("1.made up") || fill("-1.x") || fill("99999999999999999999.x") {
		t.Error("filled without a lease")
	}
	first := miss()
	if second := miss(); second != first {
		t.Errorf("two readers who miss have leases %q and %q", first, second)
	}
	server.FastForward(2 * time.Second)
	if fill(first) {
		t.Error("filled with a lease that is over")
	}
	second := miss()
	if second == first {
		t.Error("a token stands twice")
	}
	if !fill(second) || fill(second) {
		t.Error("a lease fills once")
	}
	value, _, hit, err := c.Get(ctx, "k")
	if err != nil || !hit || string(value) != "v" {
		t.Errorf("got %q, %v, %v", value, hit, err)
	}
	server.FastForward(2 * time.Minute)
	_ = miss() // the value's time to live is over
}

func TestFetchReadsOnceAndDoesWithoutTheCache(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server, c := small(t)
	reads := 0
	fetch := func() (string, bool) {
		t.Helper()
		value, hit, err := c.Fetch(ctx, "k", 0, func(context.Context) ([]byte, error) { reads++; return nil, nil })
		if err != nil {
			t.Fatal(err)
		}
		return string(value), hit
	}
	if _, hit := fetch(); hit || reads != 1 {
		t.Errorf("the first fetch hits: %v, %d reads", hit, reads)
	}
	if value, hit := fetch(); !hit || value != "" || reads != 1 {
		t.Errorf("the second fetch hits: %v, %q, %d reads", hit, value, reads)
	}
	gone := errors.New("the database is gone")
	if _, _, err := c.Fetch(ctx, "other", 0, func(context.Context) ([]byte, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	server.Close()
	if _, hit := fetch(); hit || reads != 2 {
		t.Errorf("without the cache: hit %v, %d reads", hit, reads)
	}
}

// A reader of a replica that is behind fills nothing in; one that has come to the invalidated version does, with the same lease.
func TestAReplicaFillsWithItsVersion(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server, c := small(t)
	fetch := func(version int64) (string, bool) {
		t.Helper()
		value, hit, err := c.FetchReplica(ctx, "k", 0, func(context.Context) ([]byte, int64, error) {
			return fmt.Append(nil, "version ", version), version, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(value), hit
	}
	_ = server.Set(c.names.Floor("k"), fmt.Sprintf("%019d", 10))
	c.patience = -1
	for _, want := range []struct {
		version int64
		value   string
		hit     bool
	}{{9, "version 9", false}, {2, "version 2", false}, {10, "version 10", false}, {9, "version 10", true}} {
		if value, hit := fetch(want.version); value != want.value || hit != want.hit {
			t.Errorf("reading version %d: %q, hit %v", want.version, value, hit)
		}
	}
	if stored, err := c.FillVersion(ctx, "other", "made up", nil, 99, 0); stored || err != nil {
		t.Errorf("filled without a lease: %v, %v", stored, err)
	}
	if _, _, err := c.FetchReplica(ctx, "gone", 0, func(context.Context) ([]byte, int64, error) { return nil, 0, ErrAbsent }); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	if server.Exists(keysOf(c.names, "gone")[0]) {
		t.Error("the absence on a replica is remembered")
	}
}

// That there is nothing is remembered, for a while and until it is invalidated.
func TestAbsenceIsRemembered(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server, c := small(t)
	reads := 0
	fetch := func() (bool, error) {
		_, hit, err := c.Fetch(ctx, "k", 0, func(context.Context) ([]byte, error) { reads++; return nil, fmt.Errorf("product 17: %w", ErrAbsent) })
		return hit, err
	}
	for i := range 3 {
		if hit, err := fetch(); !errors.Is(err, ErrAbsent) || hit != (i > 0) || reads != 1 {
			t.Errorf("fetch %d: hit %v, %v, %d reads", i, hit, err, reads)
		}
	}
	if _, lease, hit, err := c.Get(ctx, "k"); !errors.Is(err, ErrAbsent) || !hit || lease != "" {
		t.Errorf("%q, %v, %v", lease, hit, err)
	}
	server.FastForward(61 * time.Second)
	if hit, err := fetch(); hit || !errors.Is(err, ErrAbsent) || reads != 2 {
		t.Errorf("after a minute: hit %v, %v, %d reads", hit, err, reads)
	}
	server.Del(keysOf(c.names, "k")[0]) // as the sink does
	_, lease, _, err := c.Get(ctx, "k")
	if stored, fillErr := c.Fill(ctx, "k", lease, nil, 0); err != nil || fillErr != nil || !stored {
		t.Fatal(stored, err, fillErr)
	}
	if value, hit, err := c.Fetch(ctx, "k", 0, nil); err != nil || !hit || len(value) != 0 {
		t.Errorf("nothing is not an empty value: %q, %v, %v", value, hit, err)
	}
}

// A waiting reader goes with its context, and what others wrote under our keys is no value.
func TestAWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server, c := small(t)
	if _, _, _, err := c.Get(context.Background(), "k"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := c.Fetch(ctx, "k", 0, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	for _, foreign := range []string{"", "x", "-x"} {
		_ = server.Set(keysOf(c.names, "f")[0], foreign)
		value, hit, err := c.Fetch(context.Background(), "f", 0, func(context.Context) ([]byte, error) { return []byte("read"), nil })
		if err != nil || hit || string(value) != "read" {
			t.Errorf("%q is served as %q, %v, %v", foreign, value, hit, err)
		}
	}
}

// Which generation serves is looked at with every read. A lease fills the generation in which it was handed out.
func TestReadersFollowThePointer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server, c := small(t)
	two := c.names.Of(2)
	_, lease, hit, err := c.Get(ctx, "k")
	if hit || err != nil {
		t.Fatal(hit, err)
	}
	_ = server.Set(c.names.Serving(), "2")
	if _, _, _, err := c.Get(ctx, "other"); err != nil || c.serving.Load() != 2 {
		t.Errorf("it reads generation %d, %v", c.serving.Load(), err)
	}
	if stored, err := c.Fill(ctx, "k", lease, []byte("one"), 0); err != nil || !stored {
		t.Errorf("a lease of before: %v, %v", stored, err)
	}
	if _, second, hit, err := c.Get(ctx, "k"); hit || err != nil || second == lease {
		t.Errorf("generation 2 is served what was filled in generation 1: %v, %v", hit, err)
	} else if stored, err := c.FillVersion(ctx, "k", second, []byte("two"), 7, 0); err != nil || !stored {
		t.Error(stored, err)
	}
	want := func(pointer, value string) {
		t.Helper()
		if err := server.Set(c.names.Serving(), pointer); err != nil {
			t.Fatal(err)
		}
		if got, _, hit, err := c.Get(ctx, "k"); err != nil || !hit || string(got) != value {
			t.Errorf("while %s serves: %q, hit %v, %v", pointer, got, hit, err)
		}
	}
	want("1", "one")
	want("2", "two")
	server.Del(two.Value("k"))
	want("1", "one") // and not a lease of 2
	for _, pointer := range []string{"", "x", "0", "-3"} {
		_ = server.Set(c.names.Serving(), pointer)
		if _, _, _, err := c.Get(ctx, "k"); err == nil {
			t.Errorf("with the pointer %q something is read", pointer)
		}
	}
}

// between does something after a read has seen the pointer, and before it is handed its lease.
type between struct{ do func() }

func (between) DialHook(next redis.DialHook) redis.DialHook { return next }
func (between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (b between) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "mget" {
			b.do()
		}
		return err
	}
}

// A lease is not handed out in a generation that has just ceased to serve. A reader whose generation moves each time that it looks gives up.
func TestALeaseIsOfTheGenerationThatServesWhenItIsHandedOut(t *testing.T) {
	t.Parallel()
	server, c := small(t)
	serving, most := 1, 2
	c.rdb.AddHook(between{func() {
		if serving < most {
			serving++
			_ = server.Set(c.names.Serving(), fmt.Sprint(serving))
		}
	}})
	_, lease, hit, err := c.Get(t.Context(), "k")
	if err != nil || hit || lease.generation() != 2 {
		t.Errorf("lease %q, hit %v, %v", lease, hit, err)
	}
	if server.Exists(c.names.Of(1).Lease("k")) {
		t.Error("a lease stands in the generation of before")
	}
	most = 100
	if _, _, _, err := c.Get(t.Context(), "other"); !errors.Is(err, errMoves) {
		t.Errorf("%d generations within one read: %v", serving, err)
	}
}

func ExampleClient_Fetch() {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	c, err := New(Config{URL: "redis://" + server.Addr(), Prefix: "shop"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	price := func() {
		value, hit, err := c.Fetch(context.Background(), "product:17", time.Hour, func(context.Context) ([]byte, error) {
			return []byte("19.99"), nil // SELECT price FROM product WHERE id = 17
		})
		fmt.Println(string(value), hit, err)
	}
	price()
	price()
	// Output:
	// 19.99 false <nil>
	// 19.99 true <nil>
}
