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

// getScript returns the value; or, of a miss, the token that stands or the new one, and whether it is new; or -1 and the generation that serves, if it is
// another one.
//
//	KEYS: value, lease, pointer
//	ARGV: new token, its life in ms, generation of the keys
//
// Promise 8: a lease is handed out in the generation that serves, and in no other.
var getScript = redis.NewScript(`
local serving = redis.call('GET', KEYS[3]) or '1'
if serving ~= ARGV[3] then return {-1, serving, 0} end
local value = redis.call('GET', KEYS[1])
if value then return {1, value, 0} end
local token = redis.call('GET', KEYS[2])
if token then return {0, token, 0} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {0, ARGV[1], 1}
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

var errReply = errors.New("redis answers with something else")

// found is what Get found.
type found struct {
	hit    bool
	absent bool
	value  []byte
	lease  Lease
	first  bool // to miss since the lease was made
}

// maxMoves bounds how often a read begins anew because another generation serves than it took for granted. More than one is a cache that is rebuilt and rolled back
// within one read.
const maxMoves = 5

var errMoves = errors.New("another generation serves each time that it is looked")

func (c *Client) get(ctx context.Context, key string) (found, error) {
	for range maxMoves {
		f, serves, err := c.getFrom(ctx, c.names.Of(int(c.serving.Load())), key)
		if err != nil || serves == 0 {
			return f, err
		}
		c.serving.Store(int64(serves))
	}
	return found{}, errMoves
}

// getFrom reads from a generation, if that is the one that serves; serves is the other one, if not.
//
// Promise 8: pointer and value are read in one step, so that no reader is served by a generation that does not serve any more.
func (c *Client) getFrom(ctx context.Context, n cache.Names, key string) (f found, serves int, err error) {
	both, err := c.rdb.MGet(ctx, n.Serving(), n.Value(key)).Result()
	if err != nil {
		return found{}, 0, err
	}
	if len(both) != 2 {
		return found{}, 0, errReply
	}
	if serves, err = other(both[0], n); err != nil || serves != 0 {
		return found{}, serves, err
	}
	if stored, ok := both[1].(string); ok {
		f, err = read([]byte(stored))
		return f, 0, err
	}
	reply, err := getScript.Run(ctx, c.rdb, append(keysOf(n, key), n.Serving()), string(newLease(n.Generation)), c.lease.Milliseconds(), n.Generation).Slice()
	if err == nil && len(reply) != 3 {
		err = errReply
	}
	if err != nil {
		return found{}, 0, err
	}
	text, _ := reply[1].(string)
	switch reply[0] {
	case int64(-1):
		serves, err = other(text, n)
		return found{}, serves, err
	case int64(1):
		f, err = read([]byte(text))
		return f, 0, err
	}
	return found{lease: Lease(text), first: reply[2] == int64(1)}, 0, nil
}

// other is the generation that the pointer names; 0 if it is ours.
func other(pointer any, n cache.Names) (int, error) {
	text, ok := pointer.(string)
	if !ok {
		text = "1" // nothing else ever served
	}
	serves, err := strconv.Atoi(text)
	if err != nil || serves < 1 {
		return 0, errReply
	}
	if serves == n.Generation {
		return 0, nil
	}
	return serves, nil
}

// read tells a value from remembered absence.
func read(stored []byte) (found, error) {
	switch {
	case len(stored) > 0 && stored[0] == tagValue:
		return found{hit: true, value: stored[1:]}, nil
	case len(stored) == 1 && stored[0] == tagAbsent:
		return found{hit: true, absent: true}, nil
	}
	return found{}, errReply
}

// Get returns the cached value; of a miss, a lease for Fill. With an error there is neither: ErrAbsent says that there is nothing to be read,
// every other that the cache is away.
func (c *Client) Get(ctx context.Context, key string) (value []byte, lease Lease, hit bool, err error) {
	f, err := c.get(ctx, key)
	switch {
	case err != nil:
		return nil, "", false, fmt.Errorf("get %q from cache: %w", key, err)
	case f.absent:
		return nil, "", true, ErrAbsent
	}
	return f.value, f.lease, f.hit, nil
}

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
