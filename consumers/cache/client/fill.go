package client

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

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

// fillVersionScript is fillScript for a row of a replica, of which the floor may know better. The token stays then, for a reader who has the new one.
//
//	KEYS: value, lease, floor
//	ARGV: token, value, its life in ms, version in 19 digits
var fillVersionScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local least = redis.call('GET', KEYS[3])
if least and ARGV[4] < least then return 0 end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
`)

// Fill stores what the holder of the lease read after Get. It reports whether it was stored: it is not if the key was invalidated
// since, or filled by another holder, or if the lease is over. That is no error: the value is good for the caller and for nobody
// else. A ttl of zero means Config.TTL.
func (c *Client) Fill(ctx context.Context, key string, lease Lease, value []byte, ttl time.Duration) (stored bool, err error) {
	if ttl <= 0 {
		ttl = c.ttl
	}
	return c.fill(ctx, key, lease, append([]byte{tagValue}, value...), ttl)
}

// FillVersion is Fill for a value that was made of one row of a replica: version is that row's. It is refused, too, if a later version was
// invalidated. The projection must declare the version (cache: {version: COLUMN}), or nothing is known to be later.
func (c *Client) FillVersion(ctx context.Context, key string, lease Lease, value []byte, version int64, ttl time.Duration) (stored bool, err error) {
	generation := lease.generation()
	if generation == 0 || version < 0 {
		return false, nil
	}
	names := c.names.Of(generation)
	if ttl <= 0 {
		ttl = c.ttl
	}
	n, err := fillVersionScript.Run(ctx, c.rdb, append(keysOf(names, key), names.Floor(key)), string(lease), append([]byte{tagValue}, value...), max(ttl.Milliseconds(), 1), fmt.Sprintf("%019d", version)).Int64()
	if err != nil {
		return false, fmt.Errorf("fill %q in cache: %w", key, err)
	}
	return n == 1, nil
}

// FillAbsent is Fill for what does not exist. It lives for Config.NegativeTTL.
func (c *Client) FillAbsent(ctx context.Context, key string, lease Lease) (stored bool, err error) {
	return c.fill(ctx, key, lease, []byte{tagAbsent}, c.negativeTTL)
}

func (c *Client) fill(ctx context.Context, key string, lease Lease, stored []byte, ttl time.Duration) (bool, error) {
	generation := lease.generation()
	if generation == 0 {
		return false, nil
	}
	n, err := fillScript.Run(ctx, c.rdb, keysOf(c.names.Of(generation), key), string(lease), stored, max(ttl.Milliseconds(), 1)).Int64()
	if err != nil {
		return false, fmt.Errorf("fill %q in cache: %w", key, err)
	}
	return n == 1, nil
}
