package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers/cache"
)

// cacheNames are the names of what a cache holds, as the sink and applications make them.
func cacheNames(prefix string) cache.Names { return cache.Names{Prefix: prefix, Generation: 1} }

// cacheCase measures how fast events void cached values on Redis. Every value is there when it begins and none when it ends.
func (r *sinkRig) cacheCase(ctx context.Context) error {
	url, err := r.redisURL()
	if err != nil {
		return err
	}
	n := r.opts.Events
	t, err := r.sales(ctx, 1, n)
	if err != nil {
		return err
	}
	client, err := redisClient(url)
	if err != nil {
		return err
	}
	defer client.Close()
	c := r.report.in("cache on Redis, one lane")
	for rep := range r.opts.Reps {
		r.say("cache, %d of %d", rep+1, r.opts.Reps)
		r.runs++
		prefix := fmt.Sprintf("bench%d", r.runs)
		if err := fillCache(ctx, client, prefix); err != nil {
			return err
		}
		d, err := r.drainSink(ctx, sinkSetup{topic: t, declare: declareCache, lines: []string{"kind: redis", fmt.Sprintf("url: %q", url), "prefix: " + prefix}, pid: r.redis.PID()})
		if err == nil {
			err = voided(ctx, client, prefix, n)
		}
		if err != nil {
			return err
		}
		ceilings := [2]float64{}
		for i, perCall := range []int64{100, 1} {
			if ceilings[i], err = voidCeiling(ctx, client, fmt.Sprintf("bench%d_%d", r.runs, perCall), n, perCall); err != nil {
				return err
			}
		}
		c.row("part of the ceiling", "", d.rate/ceilings[0], atLeast(0.75))
		c.row("part of the ceiling of one key a call", "", d.rate/ceilings[1])
		c.sinkRows(d, mostSink)
		c.row("ceiling: scripts of 100 keys from memory", "1/s", ceilings[0])
		c.row("ceiling: scripts of one key from memory", "1/s", ceilings[1])
		r.say("%s events/s, %.2f of the ceiling (%s/s)", thousands(int64(d.rate)), d.rate/ceilings[0], thousands(int64(ceilings[0])))
	}
	return nil
}

func redisClient(url string) (*redis.Client, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("read the address of Redis: %w", err)
	}
	return redis.NewClient(opts), nil
}

// fillCache empties Redis and puts a value under every key.
func fillCache(ctx context.Context, client *redis.Client, prefix string) error {
	if err := client.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty Redis: %w", err)
	}
	names := cacheNames(prefix)
	for from := int64(0); from < saleKeys; from += 5000 {
		pipe := client.Pipeline()
		for key := from; key < min(from+5000, saleKeys); key++ {
			pipe.Set(ctx, names.Value("sale:"+saleKeyText(key)), "a value that somebody has cached", 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("fill the cache: %w", err)
		}
	}
	return nil
}

// voided counts the values that are left.
func voided(ctx context.Context, client *redis.Client, prefix string, n int64) error {
	names := cacheNames(prefix)
	last, _, _ := latest(n)
	for key, at := range last {
		if at < 0 || key%97 != 0 { // a sample
			continue
		}
		left, err := client.Exists(ctx, names.Value("sale:"+saleKeyText(int64(key)))).Result()
		if err != nil {
			return fmt.Errorf("look for a value: %w", err)
		}
		if left > 0 {
			return fmt.Errorf("the value of key %d is still there", key)
		}
	}
	return nil
}

// voidScript does to each key what has to be done to it: the value and its readers' token go, the state stays with its version.
var voidScript = redis.NewScript(`
for i = 1, #KEYS, 3 do
  redis.call('UNLINK', KEYS[i], KEYS[i + 1])
  local j = (i - 1) / 3 * 2
  local have = redis.call('GETRANGE', KEYS[i + 2], 0, 18)
  if have == '' or have < ARGV[j + 1] then redis.call('SET', KEYS[i + 2], ARGV[j + 1] .. ARGV[j + 2]) end
end
return 'OK'
`)

// voidCeiling is what Redis can do: the newest of each key in a batch of 5,000, so many keys to a call, all calls of a batch in one pipeline.
func voidCeiling(ctx context.Context, client *redis.Client, prefix string, n, perCall int64) (float64, error) {
	if err := fillCache(ctx, client, prefix); err != nil {
		return 0, err
	}
	if err := voidScript.Load(ctx, client).Err(); err != nil {
		return 0, fmt.Errorf("load a script: %w", err)
	}
	names := cacheNames(prefix)
	type call struct {
		keys []string
		args []any
	}
	var all [][]call
	state := strings.Repeat("s", 60) // as large as the sink's
	for _, batch := range batches(n, 1, ceilingBatch)[0] {
		var calls []call
		for from := int64(0); from < int64(len(batch)); from += perCall {
			var c call
			for _, at := range batch[from:min(from+perCall, int64(len(batch)))] {
				key := saleKeyText(saleKey(at))
				c.keys = append(c.keys, names.Value("sale:"+key), names.Lease("sale:"+key), names.State("sale", key))
				c.args = append(c.args, fmt.Sprintf("%019d", at+1), state)
			}
			calls = append(calls, c)
		}
		all = append(all, calls)
	}
	began := time.Now()
	for _, calls := range all {
		pipe := client.Pipeline()
		for _, c := range calls {
			voidScript.EvalSha(ctx, pipe, c.keys, c.args...)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, fmt.Errorf("void from memory: %w", err)
		}
	}
	took := time.Since(began)
	return perSecond(n, took), voided(ctx, client, prefix, n)
}
