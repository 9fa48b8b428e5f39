package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
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
	if fill("") || fill("made up") {
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
