// Package client is how applications read through a cache that Millrace invalidates.
//
//	value, lease, hit, err := c.Get(ctx, "product:17")
//	if !hit {
//		value = … // read the database, after Get
//		c.Fill(ctx, "product:17", lease, value, time.Hour)
//	}
//
// or, in one call, Fetch. What makes it safe is the lease; package cache tells how. Two rules are left to the reader: the database is
// read after Get and not before, and it is the primary.
//
// A cache is a help and not a need: Fetch reads the database when the cache is away.
package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers/cache"
)

// Config says which server and under which names. Prefix and Generation must be those of the sink.
type Config struct {
	// URL is written as cache.Dial says. Not needed where Redis is given.
	URL string
	// Redis is a client that the application has already. It is not closed by Close.
	Redis redis.UniversalClient
	// Prefix and Generation name the keys, see cache.Names. Defaults "millrace" and 1.
	Prefix     string
	Generation int
	// Lease is how long a reader who missed may take to fill. Later fills are refused. Default 10 s.
	Lease time.Duration
	// TTL is how long a value lives if Fill does not say. It is a backstop: invalidation does not wait for it. Default 1 h.
	TTL time.Duration
}

// Lease is the right to fill a key that was missed. The empty lease fills nothing.
type Lease string

// Client reads and fills.
type Client struct {
	names      cache.Names
	rdb        redis.UniversalClient
	close      func() error
	lease, ttl time.Duration
}

// New makes a client. It does not wait for the server.
func New(cfg Config) (*Client, error) {
	names, err := cache.Names{Prefix: cfg.Prefix, Generation: cfg.Generation}.WithDefaults()
	if err != nil {
		return nil, fmt.Errorf("cache client: %w", err)
	}
	c := &Client{names: names, rdb: cfg.Redis, close: func() error { return nil }, lease: cfg.Lease, ttl: cfg.TTL}
	if c.lease <= 0 {
		c.lease = 10 * time.Second
	}
	if c.ttl <= 0 {
		c.ttl = time.Hour
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

// getScript returns the value; or, of a miss, the token that stands or the new one.
//
//	KEYS: value, lease
//	ARGV: new token, its life in ms
var getScript = redis.NewScript(`
local value = redis.call('GET', KEYS[1])
if value then return {1, value} end
local token = redis.call('GET', KEYS[2])
if not token then
  token = ARGV[1]
  redis.call('SET', KEYS[2], token, 'PX', ARGV[2])
end
return {0, token}
`)

// fillScript stores the value if the token stands.
//
//	KEYS: value, lease
//	ARGV: token, value, its life in ms
var fillScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
`)

var errReply = errors.New("redis answers with something else")

// Get returns the cached value; of a miss, a lease for Fill. With an error there is neither.
func (c *Client) Get(ctx context.Context, key string) (value []byte, lease Lease, hit bool, err error) {
	value, err = c.rdb.Get(ctx, c.names.Value(key)).Bytes()
	if err == nil {
		return value, "", true, nil
	}
	if !errors.Is(err, redis.Nil) {
		return nil, "", false, fmt.Errorf("get %q from cache: %w", key, err)
	}
	reply, err := getScript.Run(ctx, c.rdb, c.keys(key), rand.Text(), c.lease.Milliseconds()).Slice()
	if err == nil && len(reply) != 2 {
		err = errReply
	}
	if err != nil {
		return nil, "", false, fmt.Errorf("get %q from cache: %w", key, err)
	}
	text, _ := reply[1].(string)
	if reply[0] == int64(1) {
		return []byte(text), "", true, nil
	}
	return nil, Lease(text), false, nil
}

// Fill stores what the holder of the lease read after Get. It reports whether it was stored: it is not if the key was invalidated
// since, or filled by another holder, or if the lease is over. That is no error: the value is good for the caller and for nobody
// else. A ttl of zero means Config.TTL.
func (c *Client) Fill(ctx context.Context, key string, lease Lease, value []byte, ttl time.Duration) (stored bool, err error) {
	if lease == "" {
		return false, nil
	}
	if ttl <= 0 {
		ttl = c.ttl
	}
	n, err := fillScript.Run(ctx, c.rdb, c.keys(key), string(lease), value, max(ttl.Milliseconds(), 1)).Int64()
	if err != nil {
		return false, fmt.Errorf("fill %q in cache: %w", key, err)
	}
	return n == 1, nil
}

// Fetch returns the cached value, or what read returns, which it fills in. Where the cache is away it reads: an error is read's.
func (c *Client) Fetch(ctx context.Context, key string, ttl time.Duration, read func(context.Context) ([]byte, error)) (value []byte, hit bool, err error) {
	value, lease, hit, _ := c.Get(ctx, key) // without the cache there is neither value nor lease
	if hit {
		return value, true, nil
	}
	if value, err = read(ctx); err != nil {
		return nil, false, err
	}
	_, _ = c.Fill(ctx, key, lease, value, ttl) // the next reader reads again
	return value, false, nil
}

func (c *Client) keys(key string) []string { return []string{c.names.Value(key), c.names.Lease(key)} }
