package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/bench/measure"
)

// arrivals consumes a topic at read_committed and notes how long each event took.
type arrivals struct {
	writers *writers
	client  *kgo.Client
	tally   *tally
	from    atomic.Int64 // events committed before this time, in nanoseconds, are the warm-up's
	got     atomic.Int64
	commit  []float64 // from the COMMIT being sent to arrival, in ms
	insert  []float64 // from the INSERT being sent to arrival, in ms
	stop    context.CancelFunc
	done    chan error
}

// fetchWait is how long a broker may hold an empty fetch; it answers at once when something becomes visible.
const fetchWait = 500 * time.Millisecond

// receive begins to consume. The topic must exist.
func (w *writers) receive(ctx context.Context) (*arrivals, error) {
	from := map[int32]kgo.Offset{}
	for p := range w.site.rig.opts.Partitions {
		from[int32(p)] = kgo.NewOffset().AtStart()
	}
	client, err := kgo.NewClient(append(w.site.rig.seeds(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{w.site.topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(fetchWait), kgo.FetchMinBytes(1),
	)...)
	if err != nil {
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	a := &arrivals{writers: w, client: client, tally: newTally(w.limit), done: make(chan error, 1)}
	a.from.Store(1 << 62) // nothing counts yet
	ctx, a.stop = context.WithCancel(ctx)
	go func() { a.done <- a.run(ctx) }() // close waits
	return a, nil
}

func (a *arrivals) run(ctx context.Context) error {
	for ctx.Err() == nil {
		fetches := a.client.PollFetches(ctx)
		now := time.Now().UnixNano()
		if err := fetches.Err(); err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("consume %s: %w", a.writers.site.topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { a.take(r, now) })
	}
	return nil
}

func (a *arrivals) take(r *kgo.Record, now int64) {
	a.tally.add(r)
	a.got.Add(1)
	n, inserted, err := read(r.Value)
	if err != nil || n < 0 || n >= a.writers.limit {
		return // the tally counts it
	}
	if committed := a.writers.commits[n].Load(); committed >= a.from.Load() {
		a.commit = append(a.commit, float64(now-committed)/1e6)
		a.insert = append(a.insert, float64(now-inserted)/1e6)
	}
}

// arrivalPatience is how long the last events may take.
const arrivalPatience = 60 * time.Second

// await waits until n events have arrived.
func (a *arrivals) await(ctx context.Context, n int64) error {
	deadline := time.Now().Add(arrivalPatience)
	for a.got.Load() < n {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d events arrived within %v", a.got.Load(), n, arrivalPatience)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (a *arrivals) close() error {
	a.stop()
	err := <-a.done
	a.client.Close()
	return err
}

// paced is what a steady load took.
type paced struct {
	rate           float64 // events a second as written
	commit, insert []float64
	cpu            float64 // relay, per million events
	broker         float64
	postgres       float64
	slice          float64 // events in a Kafka transaction
	memory         measure.Memory
}

// limitOf is how many events a paced run may write: with room for those that make the topic, as fast as they go.
func limitOf(rate int, length time.Duration) int64 {
	return int64(float64(rate)*length.Seconds()*1.2) + 100_000
}

// pace lets a relay follow writers of a steady rate.
func (s *site) pace(ctx context.Context, rate int) (p paced, err error) {
	o := s.rig.opts
	perTx := 4
	if rate <= 500 {
		perTx = 1
	}
	w, err := s.newWriters(ctx, perTx, limitOf(rate, o.WarmupFor+o.For), true)
	if err != nil {
		return p, err
	}
	relay, err := s.startRelay()
	if err != nil {
		return p, err
	}
	defer relay.stop()
	if err := relay.leading(ctx); err != nil {
		return p, err
	}
	// A few events make topic, cursor and schema id.
	if _, err := w.run(ctx, 0, 100*time.Millisecond); err != nil {
		return p, err
	}
	if err := relay.caughtUp(ctx, w.written.Load()); err != nil {
		return p, err
	}
	a, err := w.receive(ctx)
	if err != nil {
		return p, err
	}
	defer func() {
		if a != nil {
			err = errors.Join(err, a.close())
		}
	}()
	if _, err := w.run(ctx, rate, o.WarmupFor); err != nil {
		return p, err
	}
	profile := relay.profile(ctx, s.name)
	p, err = s.pacedWindow(ctx, w, a, relay, rate)
	if err != nil {
		return p, err
	}
	if err := errors.Join(a.await(ctx, w.written.Load()), profile()); err != nil {
		return p, err
	}
	err = a.close()
	p.commit, p.insert = a.commit, a.insert
	c := a.tally.result(w.written.Load())
	a = nil
	return p, errors.Join(err, c.err())
}

// pacedWindow writes for the time that counts.
func (s *site) pacedWindow(ctx context.Context, w *writers, a *arrivals, relay *relay, rate int) (p paced, err error) {
	kafka, postgres := s.rig.kafka.PID(), s.rig.postgres.PID()
	before, err := relay.status(ctx)
	if err != nil {
		return p, err
	}
	used, broker, database := relay.cpu(), measure.CPU(kafka), measure.TreeCPU(postgres)
	began := time.Now()
	a.from.Store(began.UnixNano())
	n, err := w.run(ctx, rate, s.rig.opts.For)
	if err != nil {
		return p, err
	}
	p.rate = perSecond(n, time.Since(began))
	p.cpu = perMillion(relay.cpu()-used, n)
	p.broker = perMillion(measure.CPU(kafka)-broker, n)
	p.postgres = perMillion(measure.TreeCPU(postgres)-database, n)
	p.memory = measure.MemoryOf(relay.pid())
	after, err := relay.status(ctx)
	if err != nil {
		return p, errors.Join(err, relay.alive())
	}
	p.slice = sliceOf(before, after)
	return p, nil
}

// latencyCase measures each rate in every repetition.
func (r *rig) latencyCase(ctx context.Context) error {
	if err := r.warmUp(ctx); err != nil {
		return err
	}
	for rep := range r.opts.Reps {
		for _, rate := range r.opts.Rates {
			r.say("latency at %d events/s, %d of %d", rate, rep+1, r.opts.Reps)
			s, err := r.newSite(ctx, "latency")
			if err != nil {
				return err
			}
			p, err := s.pace(ctx, rate)
			s.close(ctx)
			if err != nil {
				return err
			}
			r.latencyRows(fmt.Sprintf("latency %s/s", thousands(int64(rate))), rate, p)
		}
	}
	return nil
}

func (r *rig) latencyRows(name string, rate int, p paced) {
	slices.Sort(p.commit)
	slices.Sort(p.insert)
	p50, p99 := measure.Percentile(p.commit, 0.5), measure.Percentile(p.commit, 0.99)
	c := r.report.in(name)
	c.row("commit to arrival, p50", "ms", p50, atMost(7))
	c.row("commit to arrival, p95", "ms", measure.Percentile(p.commit, 0.95))
	c.row("commit to arrival, p99", "ms", p99, atMost(30))
	c.row("commit to arrival, max", "ms", measure.Percentile(p.commit, 1))
	c.row("insert to arrival, p50", "ms", measure.Percentile(p.insert, 0.5))
	c.row("insert to arrival, p99", "ms", measure.Percentile(p.insert, 0.99))
	var cpuTarget []target
	if rate == 2000 {
		cpuTarget = []target{atMost(100)}
	}
	c.row("relay CPU per million", "s", p.cpu, cpuTarget...)
	c.row("broker CPU per million", "s", p.broker)
	c.row("Postgres CPU per million, writers included", "s", p.postgres)
	c.row("relay memory, peak resident", "MiB", p.memory.Peak)
	c.row("events in a Kafka transaction", "", p.slice)
	c.row("rate as written", "1/s", p.rate)
	r.say("p50 %.1f ms, p99 %.1f ms, %.0f s CPU per million", p50, p99, p.cpu)
}
