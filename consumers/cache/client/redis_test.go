package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
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

// real is the client and the sinks of the generations on one server.
type real struct {
	t       testing.TB
	url     string
	prefix  string
	client  *Client
	rdb     redis.UniversalClient
	forward func(time.Duration) // nil where time cannot be made to pass

	mu          sync.Mutex // guards the following
	generations map[int]*generation
}

// generation is a sink, as its consumer has it.
type generation struct {
	*sink.Sink
	epoch  int64 // 0: not claimed
	offset int64
}

var products = consumers.TopicPartition{Topic: "products"}

func newReal(t testing.TB, url, prefix string, rdb redis.UniversalClient) *real {
	t.Helper()
	c, err := New(Config{Redis: rdb, Prefix: prefix, Lease: held * time.Second, TTL: ttl * time.Second, NegativeTTL: ttl * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r := &real{t: t, url: url, prefix: prefix, client: c, rdb: rdb, generations: map[int]*generation{}}
	r.begin(1)
	return r
}

// close closes the sinks.
func (r *real) close() {
	for _, g := range r.generations {
		if err := g.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

func name(key int) string { return fmt.Sprint("k", key) }

func (r *real) get(key int) (entry, ticket, bool) {
	f, err := r.client.get(context.Background(), name(key))
	if err != nil {
		r.t.Error(err)
	}
	switch {
	case f.absent:
		return entry{hit: true, absent: true, version: -1}, ticket{}, false
	case f.hit:
		return entry{hit: true, version: int(binary.BigEndian.Uint64(f.value)), read: int(binary.BigEndian.Uint64(f.value[8:]))}, ticket{}, false
	}
	return entry{}, ticket{lease: f.lease}, f.first
}

func (r *real) fill(key int, t ticket, e entry) {
	var err error
	if e.absent {
		_, err = r.client.FillAbsent(context.Background(), name(key), t.lease)
	} else {
		value := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(e.version)), uint64(e.read))
		_, err = r.client.Fill(context.Background(), name(key), t.lease, value, 0)
	}
	if err != nil {
		r.t.Error(err)
	}
}

func (r *real) fillVersion(key int, t ticket, e entry) {
	value := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(e.version)), uint64(e.read))
	if _, err := r.client.FillVersion(context.Background(), name(key), t.lease, value, int64(e.version), 0); err != nil {
		r.t.Error(err)
	}
}

// invalidate commits a batch, as the consumer does.
func (r *real) invalidate(generation, key, version int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.generations[generation]
	if g.epoch == 0 {
		claim, err := g.Claim(context.Background(), products)
		if err != nil {
			r.t.Error(err)
		}
		g.epoch, g.offset = claim.Epoch, max(claim.Next, 0)
	}
	state := fold.Stored{Version: int64(version), State: projection.State{Exists: true, Values: []any{int64(version)}}}
	err := g.Commit(context.Background(), fold.Commit{TopicPartition: products, Epoch: g.epoch, From: g.offset, Next: g.offset + 1,
		Changes: map[string][]fold.Change{"product": {{Key: name(key), Stored: state, CacheKeys: []string{name(key)}, CacheVersion: int64(version)}}}})
	if err != nil {
		r.t.Error(err)
	}
	g.offset++
}

func (r *real) begin(number int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := sink.Open(sink.Config{URL: r.url, Prefix: r.prefix, Generation: number, Projections: []fold.Projection{priced{}}, RemoveRate: 1_000_000, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.generations[number] = &generation{Sink: s}
}

// serve opens the generation anew that does not serve any more, as who supervises the sinks does: its side effects are off now.
func (r *real) serve(number int) bool {
	err := r.generations[number].Serve(context.Background())
	if err != nil && !errors.Is(err, fold.ErrBehind) {
		r.t.Error(err)
	}
	for other, g := range r.generations {
		if err == nil && other != number {
			if err := g.Close(); err != nil {
				r.t.Error(err)
			}
			r.begin(other)
		}
	}
	return err == nil
}

func (r *real) remove(number int) bool {
	g := r.generations[number]
	err := g.Remove(context.Background())
	if errors.Is(err, fold.ErrServing) {
		return false
	}
	if err := errors.Join(err, g.Close()); err != nil {
		r.t.Error(err)
	}
	delete(r.generations, number)
	return true
}

func (r *real) empty() {
	if err := r.rdb.FlushDB(context.Background()).Err(); err != nil {
		r.t.Error(err)
	}
	for _, g := range r.generations {
		g.epoch = 0 // its next commit would say so
	}
}

func (r *real) lose(generation, key int, tokenToo bool) {
	names := keysOf(r.client.names.Of(generation), name(key))
	if !tokenToo {
		names = names[:1]
	}
	if err := r.rdb.Del(context.Background(), names...).Err(); err != nil {
		r.t.Error(err)
	}
}

func (r *real) tick() bool {
	if r.forward != nil {
		r.forward(tick * time.Second)
	}
	return r.forward != nil
}

func TestNoStaleValueIsServedAfterItsInvalidationOnRealRedis(t *testing.T) {
	t.Parallel()
	db := harness.Redis(t)
	rdb := db.Client(t)
	from, to := seeds(t, 300)
	to = min(to, from+1000)
	for seed := from; seed != to; seed++ {
		r := newReal(t, db.URL, fmt.Sprint("s", seed), rdb)
		if err := newSchedule(seed, r).run(steps); err != nil {
			t.Fatalf("schedule %d (MILLRACE_SEED=%d MILLRACE_SCHEDULES=1 runs it alone): %v", seed, seed, err)
		}
		r.close()
	}
}

// The same where time can be made to pass: leases and values end.
func TestNoStaleValueIsServedAsTimePasses(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	from, to := seeds(t, 100)
	to = min(to, from+1000)
	for seed := from; seed != to; seed++ {
		r := newReal(t, "redis://"+server.Addr(), fmt.Sprint("s", seed), rdb)
		r.forward = server.FastForward
		if err := newSchedule(seed, r).run(steps); err != nil {
			t.Fatalf("schedule %d (MILLRACE_SEED=%d MILLRACE_SCHEDULES=1 runs it alone): %v", seed, seed, err)
		}
		r.close()
	}
}

// TestNoStaleValueIsServedToConcurrentReaders lets the scheduler interleave: writers change a version, the sink invalidates behind
// them, readers check what they get against what was invalidated before they asked. The cache is rebuilt, taken over and rolled back meanwhile.
func TestNoStaleValueIsServedToConcurrentReaders(t *testing.T) {
	t.Parallel()
	const readers, changes, keys = 6, 400, 3 // version 3, 6, … of a key: deleted
	db := harness.Redis(t)
	r := newReal(t, db.URL, "concurrent", db.Client(t))
	defer r.close()
	var database, invalidated [keys]atomic.Int64
	var hits, misses, absences atomic.Int64
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
				atLeast := int(invalidated[k].Load())
				e, lease, _ := r.get(k)
				if !e.hit {
					misses.Add(1)
					v := int(database[k].Load())
					r.fill(k, lease, entry{absent: absent(v), version: v})
					continue
				}
				hits.Add(1)
				if e.absent {
					absences.Add(1)
				} else if e.version < atLeast || absent(e.version) {
					t.Errorf("key %d is served in version %d after the invalidation of version %d", k, e.version, atLeast)
				}
			}
		})
	}
	b := &rebuilds{real: r, serving: 1, newest: 1}
	for i := range changes {
		k := i % keys
		version := database[k].Add(1)
		b.change(i, k, int(version))
		invalidated[k].Store(version)
	}
	close(stop)
	wg.Wait()
	if hits.Load() == 0 || misses.Load() == 0 || absences.Load() == 0 {
		t.Errorf("%d hits, %d misses, %d remembered absences: nothing was tried", hits.Load(), misses.Load(), absences.Load())
	}
	if b.newest < 5 || b.back == 0 {
		t.Errorf("%d generations, %d rollbacks: nothing was tried", b.newest, b.back)
	}
}

// rebuilds rebuilds the cache again and again while changes come.
type rebuilds struct {
	*real
	log                    [][2]int
	serving, other, newest int
	behind                 int // how many changes the other has applied
	back                   int // rollbacks
}

// change is the i-th change.
func (b *rebuilds) change(i, key, version int) {
	b.log = append(b.log, [2]int{key, version})
	b.invalidate(b.serving, key, version)
	switch i % 40 {
	case 10:
		b.newest++
		b.other, b.behind = b.newest, 0
		b.begin(b.other)
	case 20:
		b.turn()
	case 30:
		if b.newest%2 == 0 {
			b.turn()
			b.back++
		}
	case 35:
		if !b.remove(b.other) {
			b.t.Errorf("generation %d cannot be removed", b.other)
		}
		b.other = 0
	}
}

// turn has the other generation serve, once it has applied what the one that serves has.
func (b *rebuilds) turn() {
	if b.behind < len(b.log)-1 && b.serve(b.other) {
		b.t.Error("a generation that is behind serves")
	}
	for _, c := range b.log[b.behind:] {
		b.invalidate(b.other, c[0], c[1])
	}
	if !b.serve(b.other) {
		b.t.Error("a generation that has caught up does not serve")
	}
	b.serving, b.other, b.behind = b.other, b.serving, len(b.log)
}

// Of many readers who miss a key, in two processes, one reads the database. The others are given what it filled in, or read themselves if it was
// invalidated meanwhile.
func TestOneReaderOfManyReadsTheDatabase(t *testing.T) {
	t.Parallel()
	db := harness.Redis(t)
	var clients [2]*Client
	for i := range clients {
		c, err := New(Config{Redis: db.Client(t), Prefix: "stampede", Wait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		clients[i] = c
	}
	var reads atomic.Int64
	release := make(chan struct{})
	var wg sync.WaitGroup
	var hits atomic.Int64
	fetch := func(i int) {
		value, hit, err := clients[i%2].Fetch(t.Context(), "hot", 0, func(context.Context) ([]byte, error) {
			reads.Add(1)
			<-release
			return []byte("fresh"), nil
		})
		if err != nil || string(value) != "fresh" {
			t.Errorf("%q, %v", value, err)
		}
		if hit {
			hits.Add(1)
		}
	}
	for i := range 40 {
		wg.Go(func() { fetch(i) })
	}
	for limit := time.Now().Add(time.Minute); reads.Load() == 0; time.Sleep(time.Millisecond) { // the one that reads is stuck in the database
		if time.Now().After(limit) {
			t.Fatal("nobody reads the database")
		}
	}
	time.AfterFunc(200*time.Millisecond, func() { close(release) })
	wg.Wait()
	if reads.Load() != 1 || hits.Load() != 39 {
		t.Errorf("%d reads of the database, %d hits", reads.Load(), hits.Load())
	}
}

// A reader that died with the lease holds nobody up for longer than Wait.
func TestAReaderThatDiedHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	db := harness.Redis(t)
	c, err := New(Config{Redis: db.Client(t), Prefix: "died", Wait: 50 * time.Millisecond, Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, hit, err := c.Get(t.Context(), "k"); hit || err != nil {
		t.Fatal(hit, err)
	}
	value, hit, err := c.Fetch(t.Context(), "k", 0, func(context.Context) ([]byte, error) { return []byte("v"), nil })
	if err != nil || hit || string(value) != "v" {
		t.Errorf("%q, %v, %v", value, hit, err)
	}
	if value, _, hit, err = c.Get(t.Context(), "k"); err != nil || !hit || string(value) != "v" {
		t.Errorf("it did not fill: %q, %v, %v", value, hit, err)
	}
}
