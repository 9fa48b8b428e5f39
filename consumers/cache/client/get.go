package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers/cache"
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
