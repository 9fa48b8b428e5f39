package opensearch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Promise 4: redelivery, rebalance, a connection that goes at any point, a slow zombie: what is stored is what each batch, applied once,
// makes of it. Every lane goes on as a consumer's lane does: it tries again, and claims anew where it is told to.
func TestPromise4_LanesBehindANetworkThatFailsAtRandom(t *testing.T) {
	t.Parallel()
	const lanes, batches, keysPerLane = 4, 25, 8
	seed := rand.Uint64() >> 32
	if s := os.Getenv("MILLRACE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("MILLRACE_SEED=%d", seed)
	r := newRig(t, func(c *Config) { c.BulkBytes, c.CommitTimeout = 1500, 2*time.Second })
	var mu sync.Mutex // guards rng
	rng := rand.New(rand.NewPCG(seed, 1))
	r.proxy.set(func(w http.ResponseWriter, req *http.Request, body []byte) bool {
		mu.Lock()
		n, m := rng.IntN(100), rng.IntN(3)
		mu.Unlock()
		switch {
		case n < 4:
			cut(w)
		case n < 8:
			r.proxy.swallow(w, req, body)
		case n < 11:
			refuse(w, http.StatusServiceUnavailable, "unavailable_shards_exception")
		case n < 13:
			refuse(w, http.StatusTooManyRequests, "rejected_execution_exception")
		case n < 20 && isBulk(req):
			overloaded(t, r.proxy, w, req, body, http.StatusTooManyRequests, func(key string) bool { return int(key[len(key)-1])%3 == m })
		default:
			return false
		}
		return true
	})
	var working sync.WaitGroup
	for lane := range lanes {
		working.Go(func() { r.follow(int32(lane), batches, keysPerLane, rand.New(rand.NewPCG(seed, uint64(lane)+2))) })
	}
	working.Wait()
	r.proxy.set(nil)
	for lane := range lanes {
		for k := range keysPerLane {
			key := fmt.Sprintf("%d-%d", lane, k)
			want := fmt.Sprintf("%s:%d", key, lastVersion(batches, keysPerLane, k))
			if lastVersion(batches, keysPerLane, k)%7 == 0 {
				want = fmt.Sprintf("%s:-%d", key, lastVersion(batches, keysPerLane, k))
			}
			r.want("in the end", r.versions(key), want)
		}
	}
	all, err := r.Positions(t.Context())
	if err != nil || len(all) != lanes {
		t.Fatalf("positions %v, %v", all, err)
	}
	for tp, next := range all {
		if next != batches {
			t.Errorf("%v is at %d", tp, next)
		}
	}
}

// versionOf is the version that batch n gives key k, 0 if it leaves it alone.
func versionOf(n, keys, k int) int64 {
	if (n+k)%3 == 0 {
		return 0
	}
	return int64(n*keys + k + 1)
}

func lastVersion(batches, keys, k int) (last int64) {
	for n := range batches {
		last = max(last, versionOf(n, keys, k))
	}
	return last
}

// follow applies the batches of a lane as a consumer does, and now and then somebody claims the partition in between.
func (r *rig) follow(lane int32, batches, keys int, rng *rand.Rand) {
	tp := consumers.TopicPartition{Topic: "items", Partition: lane}
	ctx := context.Background()
	claimed := false
	var c fold.Claim
	for tries := 0; tries < 2000; tries++ {
		var err error
		if !claimed {
			if c, err = r.Claim(ctx, tp); err == nil {
				claimed, c.Next = true, max(c.Next, 0)
			}
			continue
		}
		if c.Next == int64(batches) {
			return
		}
		if rng.IntN(10) == 0 {
			_, _ = r.Claim(ctx, tp) // somebody else, for a moment
		}
		commit := fold.Commit{TopicPartition: tp, Epoch: c.Epoch, From: c.Next, Next: c.Next + 1, Changes: map[string][]fold.Change{}}
		for k := range keys {
			v := versionOf(int(c.Next), keys, k)
			s := state(v, strconv.Itoa(k))
			if v%7 == 0 {
				s = deleted(v)
			}
			if v > 0 {
				commit.Changes["item"] = append(commit.Changes["item"], fold.Change{Key: fmt.Sprintf("%d-%d", lane, k), Stored: s})
			}
		}
		switch err = r.Commit(ctx, commit); {
		case err == nil:
			c.Next++
		case errors.Is(err, consumers.ErrFenced), errors.Is(err, consumers.ErrPosition):
			claimed = false
		case consumers.Classify(err) == consumers.Systemic:
			r.t.Errorf("lane %d: %v", lane, err)
			return
		}
	}
	r.t.Errorf("lane %d does not come to its end", lane)
}
