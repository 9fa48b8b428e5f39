// Package client is how applications read through a cache that Millrace invalidates.
//
//	value, lease, hit, err := c.Get(ctx, "product:17")
//	if !hit {
//		value = … // read the database, after Get
//		c.Fill(ctx, "product:17", lease, value, time.Hour)
//	}
//
// or, in one call, Fetch. What makes it safe is the lease; package cache tells how. Two rules are left to the reader: the database is
// read after Get and not before, and it is the primary. One who reads a replica may read what was before the invalidation, and no lease can know: it
// tells the version of the row that it read, with FetchReplica or FillVersion, see package cache.
//
// What else Fetch does:
//
//   - What does not exist is remembered, too: where read returns ErrAbsent, so do later fetches, until it is invalidated or NegativeTTL is over.
//   - Of many readers who miss a key, in all processes together, one reads the database; the others wait for its fill, at most Wait. They wait for
//     the cache, not for each other: a reader who took what another one had read would be served what was before an invalidation that was done when
//     it asked.
//   - Which generation of the cache serves is read with each value, in one step (see package cache): a rebuilt cache takes readers over, and gives them back, without a word to
//     them.
//   - A cache is a help and not a need: Fetch reads the database when the cache is away.
//
// Files: client.go (Client, Fetch), get.go (what is there, or a lease), fill.go (what a lease is good for).
//
// Values have a byte in front that tells them from remembered absence; others who write these keys must not.
package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers/cache"
)

// Config says which server and under which names. Prefix must be that of the sink.
type Config struct {
	// URL is written as cache.Dial says. Not needed where Redis is given.
	URL string
	// Redis is a client that the application has already. It is not closed by Close.
	Redis redis.UniversalClient
	// Prefix names the keys, see cache.Names. Default "millrace".
	Prefix string
	// Lease is how long a reader who missed may take to fill. Later fills are refused. Default 10 s.
	Lease time.Duration
	// TTL is how long a value lives if Fill does not say. It is a backstop, for an invalidation that never comes: none waits for it. Default 1 h.
	TTL time.Duration
	// NegativeTTL is how long it is remembered that there is nothing. Default 1 min.
	NegativeTTL time.Duration
	// Wait is how long Fetch waits for another reader's fill before it reads the database itself; below 0 it does not wait. Default 1 s.
	Wait time.Duration
}

// ErrAbsent is what read returns to Fetch, and Fetch to its caller, of what does not exist.
var ErrAbsent = errors.New("there is no such thing")

// Lease is the right to fill a key that was missed, in the generation in which it was. The empty lease fills nothing.
type Lease string

// newLease makes one for a generation: its number, a point and a text that stands nowhere else.
func newLease(generation int) Lease { return Lease(strconv.Itoa(generation) + "." + rand.Text()) }

// generation is the one that the lease is of; 0 for what is no lease of ours.
func (l Lease) generation() int {
	number, _, _ := strings.Cut(string(l), ".")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return 0
	}
	return n
}

// Client reads and fills.
type Client struct {
	names                             cache.Names
	serving                           atomic.Int64 // the generation that served when we looked last
	rdb                               redis.UniversalClient
	close                             func() error
	lease, ttl, negativeTTL, patience time.Duration
}

// New makes a client. It does not wait for the server.
func New(cfg Config) (*Client, error) {
	names, err := cache.Names{Prefix: cfg.Prefix}.WithDefaults()
	if err != nil {
		return nil, fmt.Errorf("cache client: %w", err)
	}
	c := &Client{names: names, rdb: cfg.Redis, close: func() error { return nil }, lease: cfg.Lease, ttl: cfg.TTL, negativeTTL: cfg.NegativeTTL, patience: cfg.Wait}
	c.serving.Store(int64(names.Generation))
	if c.lease <= 0 {
		c.lease = 10 * time.Second
	}
	if c.ttl <= 0 {
		c.ttl = time.Hour
	}
	if c.negativeTTL <= 0 {
		c.negativeTTL = time.Minute
	}
	if c.patience == 0 {
		c.patience = time.Second
	}
	if c.rdb == nil {
		if c.rdb, err = cache.Dial(cfg.URL); err != nil {
			return nil, fmt.Errorf("cache client: %w", err)
		}
		c.close = c.rdb.Close
	}
	return c, nil
}

// Close closes the connections that New made.
func (c *Client) Close() error { return c.close() }

// What stands before a value.
const (
	tagValue  = 'v'
	tagAbsent = '-'
)

// Fetch returns the cached value, or what read returns, which it fills in. Where the cache is away it reads: an error is read's, or that of ctx. Where read
// returns ErrAbsent, that is remembered.
func (c *Client) Fetch(ctx context.Context, key string, ttl time.Duration, read func(context.Context) ([]byte, error)) (value []byte, hit bool, err error) {
	f, err := c.await(ctx, key)
	switch {
	case err != nil:
		return nil, false, err
	case f.absent:
		return nil, true, ErrAbsent
	case f.hit:
		return f.value, true, nil
	}
	value, err = read(ctx)
	switch {
	case errors.Is(err, ErrAbsent):
		_, _ = c.FillAbsent(ctx, key, f.lease)
		return nil, false, err
	case err != nil:
		return nil, false, err
	}
	_, _ = c.Fill(ctx, key, f.lease, value, ttl) // the next reader reads again
	return value, false, nil
}

// FetchReplica is Fetch for a read that goes to a replica and returns the version of the row, too. What is absent there is not remembered: it may have come
// since.
func (c *Client) FetchReplica(ctx context.Context, key string, ttl time.Duration, read func(context.Context) (value []byte, version int64, err error)) (value []byte, hit bool, err error) {
	f, err := c.await(ctx, key)
	switch {
	case err != nil:
		return nil, false, err
	case f.absent:
		return nil, true, ErrAbsent
	case f.hit:
		return f.value, true, nil
	}
	value, version, err := read(ctx)
	if err != nil {
		return nil, false, err
	}
	_, _ = c.FillVersion(ctx, key, f.lease, value, version, ttl)
	return value, false, nil
}

// How often a reader who waits for another's fill looks, at first and at last.
const (
	lookMin = 5 * time.Millisecond
	lookMax = 50 * time.Millisecond
)

// await is get; if another reader is at it, it waits for that one's fill. Without the cache there is neither value nor lease. An error is that of ctx.
func (c *Client) await(ctx context.Context, key string) (found, error) {
	deadline, pause := time.Now().Add(c.patience), lookMin
	for {
		f, err := c.get(ctx, key)
		switch {
		case err != nil:
			return found{}, ctx.Err()
		case f.hit || f.first || !time.Now().Before(deadline):
			return f, nil
		}
		t := time.NewTimer(min(pause, time.Until(deadline)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return found{}, ctx.Err()
		}
		pause = min(2*pause, lookMax)
	}
}

func keysOf(n cache.Names, key string) []string { return []string{n.Value(key), n.Lease(key)} }
