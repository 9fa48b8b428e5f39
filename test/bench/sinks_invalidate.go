package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/test/bench/measure"
)

// declareOrders gives each event a cache key of its own, so that it can be told when that key goes.
const declareOrders = `on:
  bench.OrderPlaced: {set: {n: event.n}}
cache: {keys: ["'order:' + string(state.n)"]}
`

// mostVoiding is the 99th percentile that is to be kept, in ms.
const mostVoiding = 50

// invalidateCase measures the whole way: writers, relay, broker, sink, Redis. Before each event a value is put under its cache key, and
// Redis tells when it is gone.
func (r *sinkRig) invalidateCase(ctx context.Context) error {
	if _, err := r.redisURL(); err != nil {
		return err
	}
	c := r.report.in(fmt.Sprintf("commit to voided cache key at %s/s", thousands(int64(r.opts.Rate))))
	for rep := range r.opts.Reps {
		r.say("commit to voided key, %d of %d", rep+1, r.opts.Reps)
		got, rate, err := r.invalidateOnce(ctx)
		if err != nil {
			return err
		}
		slices.Sort(got)
		p50, p99 := measure.Percentile(got, 0.5), measure.Percentile(got, 0.99)
		c.row("p50", "ms", p50)
		c.row("p99", "ms", p99, atMost(mostVoiding))
		c.row("max", "ms", measure.Percentile(got, 1))
		c.row("rate as written", "1/s", rate)
		r.say("p50 %.1f ms, p99 %.1f ms of %s events", p50, p99, thousands(int64(len(got))))
	}
	return nil
}

func (r *sinkRig) invalidateOnce(ctx context.Context) (took []float64, rate float64, err error) {
	s, err := r.newSite(ctx, "invalidate")
	if err != nil {
		return nil, 0, err
	}
	defer s.close(ctx)
	client, err := redisClient(r.redis.URL)
	if err != nil {
		return nil, 0, err
	}
	defer client.Close()
	if err := client.FlushAll(ctx).Err(); err != nil {
		return nil, 0, fmt.Errorf("empty Redis: %w", err)
	}
	w, err := s.newWriters(ctx, 4, limitOf(r.opts.Rate, r.opts.WarmupFor+r.opts.For), true)
	if err != nil {
		return nil, 0, err
	}
	relay, err := s.startRelay()
	if err != nil {
		return nil, 0, err
	}
	defer relay.stop()
	if err := relay.leading(ctx); err != nil {
		return nil, 0, err
	}
	// A few events make topic, cursor and schema id.
	if _, err := w.run(ctx, 0, 100*time.Millisecond); err != nil {
		return nil, 0, err
	}
	if err := relay.caughtUp(ctx, w.written.Load()); err != nil {
		return nil, 0, err
	}
	p, err := r.startCacheSink(s)
	if err != nil {
		return nil, 0, err
	}
	defer p.stop()
	if err := p.reaches(ctx, w.written.Load()); err != nil {
		return nil, 0, err
	}
	return r.invalidateWindow(ctx, w, client, p.name)
}

// startCacheSink starts a cache on the topic of a site.
func (r *sinkRig) startCacheSink(s *site) (*sinkProcess, error) {
	r.runs++
	name := fmt.Sprintf("cache_%d", r.runs)
	dir := filepath.Join(r.dir, name)
	config := s.config() + fmt.Sprintf("schemas: [schemas]\nprojections: [projections/*.yaml]\nsinks:\n  %s: {kind: redis, url: %q, prefix: %s, entities: [order]}\n", name, r.redis.URL, name)
	schema := strings.Replace(schemaText, `"bench.orders"`, strconv.Quote(s.topic), 1)
	for file, text := range map[string]string{
		"schemas/OrderPlaced.avsc": schema, "projections/order.yaml": "entity: order\ntopic: " + s.topic + "\n" + declareOrders, "millrace.yaml": config,
	} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("make a folder: %w", err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write %s: %w", file, err)
		}
	}
	return r.startMillrace(name, dir, "sink", name)
}

// reaches waits until the sink has n events.
func (p *sinkProcess) reaches(ctx context.Context, n int64) error {
	for deadline := time.Now().Add(startPatience); time.Now().Before(deadline); {
		got, err := p.applied(ctx)
		if err != nil || got >= n {
			return err
		}
		if err := pause(ctx, sinkSampleEvery); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s does not get to %d events; its last output:\n%s", p.name, n, last(p.process.Output(), 20))
}

// invalidateWindow writes for a while, then for the time that counts.
func (r *sinkRig) invalidateWindow(ctx context.Context, w *writers, client *redis.Client, prefix string) (took []float64, rate float64, err error) {
	name := func(n int64) string { return cacheNames(prefix).Value("order:" + strconv.FormatInt(n, 10)) }
	w.before = func(ctx context.Context, numbers []int64) error {
		values := make([]any, 0, 2*len(numbers))
		for _, n := range numbers {
			values = append(values, name(n), "a value that somebody has cached")
		}
		return client.MSet(ctx, values...).Err()
	}
	v, err := listen(ctx, client, strings.TrimSuffix(name(0), "0"), w)
	if err != nil {
		return nil, 0, err
	}
	defer v.close()
	start := w.written.Load()
	if _, err := w.run(ctx, r.opts.Rate, r.opts.WarmupFor); err != nil {
		return nil, 0, err
	}
	began := time.Now()
	v.from.Store(began.UnixNano())
	n, err := w.run(ctx, r.opts.Rate, r.opts.For)
	if err != nil {
		return nil, 0, err
	}
	rate = perSecond(n, time.Since(began))
	for deadline := time.Now().Add(arrivalPatience); v.got.Load() < w.written.Load()-start; {
		if time.Now().After(deadline) {
			return nil, 0, fmt.Errorf("%d of %d keys were voided within %v", v.got.Load(), w.written.Load()-start, arrivalPatience)
		}
		if err := pause(ctx, sinkSampleEvery); err != nil {
			return nil, 0, err
		}
	}
	v.close()
	return v.took, rate, nil
}

// voidings notes how long values stay, as Redis tells when they go.
type voidings struct {
	pubsub *redis.PubSub
	from   atomic.Int64 // events committed before this time, in nanoseconds, are the warm-up's
	got    atomic.Int64
	took   []float64 // from the COMMIT being sent, in ms
	done   chan struct{}
}

// listen lets Redis tell of every key that is deleted. What follows the prefix in its name is the number of its event.
func listen(ctx context.Context, client *redis.Client, prefix string, w *writers) (*voidings, error) {
	if err := client.ConfigSet(ctx, "notify-keyspace-events", "Eg").Err(); err != nil {
		return nil, fmt.Errorf("ask Redis to tell of deleted keys: %w", err)
	}
	v := &voidings{pubsub: client.Subscribe(ctx, "__keyevent@0__:del"), done: make(chan struct{})}
	v.from.Store(1 << 62) // nothing counts yet
	if _, err := v.pubsub.Receive(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to deleted keys: %w", err), v.pubsub.Close())
	}
	go func() { // close waits
		defer close(v.done)
		for {
			m, err := v.pubsub.ReceiveMessage(ctx)
			if err != nil {
				return // closed, or the run is over
			}
			now := time.Now().UnixNano()
			rest, ours := strings.CutPrefix(m.Payload, prefix)
			n, err := strconv.ParseInt(rest, 10, 64)
			if !ours || err != nil || n < 0 || n >= w.limit {
				continue
			}
			v.got.Add(1)
			if committed := w.commits[n].Load(); committed >= v.from.Load() {
				v.took = append(v.took, float64(now-committed)/1e6)
			}
		}
	}()
	return v, nil
}

func (v *voidings) close() {
	_ = v.pubsub.Close() // what is still to come is not asked for
	<-v.done
}
