package client

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers"
	sink "github.com/millrace/millrace/consumers/cache/redis"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/test/harness"
)

// priced is a projection with one entity; the tests make its changes themselves.
type priced struct{}

func (priced) Entity() string { return "product" }
func (priced) Topic() string  { return "products" }
func (priced) Digest() string { return "d" }
func (priced) Columns() []projection.Column {
	return []projection.Column{{Name: "version", Type: projection.Type{Kind: projection.Int}}}
}
func (priced) Fold(prev projection.State, _ *consumers.Event) (projection.State, error) {
	return prev, nil
}
func (priced) CacheKeys(string, projection.State) ([]string, error) { return nil, nil }

// real is the client and the sink on one server.
type real struct {
	t      testing.TB
	client *Client
	rdb    redis.UniversalClient

	mu     sync.Mutex // guards the following
	sink   *sink.Sink
	claim  fold.Claim
	offset int64
}

var products = consumers.TopicPartition{Topic: "products"}

func newReal(t testing.TB, url, prefix string, rdb redis.UniversalClient) *real {
	t.Helper()
	s, err := sink.Open(sink.Config{URL: url, Prefix: prefix, Projections: []fold.Projection{priced{}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	claim, err := s.Claim(t.Context(), products)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Redis: rdb, Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	return &real{t: t, client: c, rdb: rdb, sink: s, claim: claim}
}

func (r *real) get(key string) (int, Lease, bool) {
	value, lease, hit, err := r.client.Get(context.Background(), key)
	if err != nil {
		r.t.Error(err)
	}
	if !hit {
		return 0, lease, false
	}
	return int(binary.BigEndian.Uint64(value)), "", true
}

func (r *real) fill(key string, lease Lease, version int) {
	if _, err := r.client.Fill(context.Background(), key, lease, binary.BigEndian.AppendUint64(nil, uint64(version)), 0); err != nil {
		r.t.Error(err)
	}
}

// invalidate commits a batch, as the consumer does.
func (r *real) invalidate(key string, version int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := fold.Stored{Version: int64(version), State: projection.State{Exists: true, Values: []any{int64(version)}}}
	err := r.sink.Commit(context.Background(), fold.Commit{TopicPartition: products, Epoch: r.claim.Epoch, From: r.offset, Next: r.offset + 1,
		Changes: map[string][]fold.Change{"product": {{Key: key, Stored: state, CacheKeys: []string{key}}}}})
	if err != nil {
		r.t.Error(err)
	}
	r.offset++
}

func (r *real) lose(key string, tokenToo bool) {
	names := r.client.keys(key)
	if !tokenToo {
		names = names[:1]
	}
	if err := r.rdb.Del(context.Background(), names...).Err(); err != nil {
		r.t.Error(err)
	}
}

func TestNoStaleValueIsServedAfterItsInvalidationOnRealRedis(t *testing.T) {
	t.Parallel()
	db := harness.Redis(t)
	rdb := db.Client(t)
	start := uint64(time.Now().UnixNano())
	for i := range uint64(300) {
		r := newReal(t, db.URL, fmt.Sprint("s", i), rdb)
		if err := newSchedule(start+i, r, "a", "b").run(60); err != nil {
			t.Fatalf("schedule %d: %v", start+i, err)
		}
		if err := r.sink.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoStaleValueIsServedToConcurrentReaders lets the scheduler interleave: writers change a version, the sink invalidates behind
// them, readers check what they get against what was invalidated before they asked.
func TestNoStaleValueIsServedToConcurrentReaders(t *testing.T) {
	t.Parallel()
	const readers, changes, keys = 6, 400, 3
	db := harness.Redis(t)
	r := newReal(t, db.URL, "concurrent", db.Client(t))
	defer r.sink.Close()
	var database, invalidated [keys]atomic.Int64
	var hits, misses atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for n := range readers {
		wg.Go(func() {
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k := i % keys
				key := fmt.Sprint("k", k)
				atLeast := invalidated[k].Load()
				version, lease, hit := r.get(key)
				if !hit {
					misses.Add(1)
					r.fill(key, lease, int(database[k].Load()))
					continue
				}
				hits.Add(1)
				if int64(version) < atLeast {
					t.Errorf("%s is served in version %d after the invalidation of version %d", key, version, atLeast)
				}
			}
		})
	}
	for i := range changes {
		k := i % keys
		version := database[k].Add(1)
		r.invalidate(fmt.Sprint("k", k), int(version))
		invalidated[k].Store(version)
	}
	close(stop)
	wg.Wait()
	if hits.Load() == 0 || misses.Load() == 0 {
		t.Errorf("%d hits, %d misses: nothing was tried", hits.Load(), misses.Load())
	}
}
