package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/test/bench/measure"
)

const (
	settle  = 5 * time.Second       // at the rate, before what is measured
	overdue = 30 * time.Second      // after the last commit: what has not arrived by then has not
	late    = 50 * time.Millisecond // a transaction that begins later than it should is counted
)

// LatencyResult is a steady rate. CPU times are as in Result.
type LatencyResult struct {
	Setting string `json:"setting"`
	Rate    int    `json:"rate"`   // events per second asked for
	Events  int    `json:"events"` // measured
	// P50, P99 and Max are from the answer to the commit to the arrival at a read_committed consumer in this process, in milliseconds.
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
	CPU       float64 `json:"cpu_seconds_per_million"`
	SenderCPU float64 `json:"wal_sender_cpu_seconds_per_million"`
	PeakMB    float64 `json:"peak_resident_mb"`
	// Late is how many transactions began more than 50 ms later than the rate asks for: the machine was too busy.
	Late int `json:"late_transactions"`
}

// Latency measures how long events take at a steady Rate, one event in a transaction up to 500 a second and four
// above. The worker has sent WarmUp events by then.
func Latency(ctx context.Context, o Options, progress func(string)) (result LatencyResult, err error) {
	r, err := newRun(ctx, o, "latency", progress)
	if err != nil {
		return LatencyResult{}, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.inserter.load(ctx, 0, r.o.WarmUp, r.progress); err != nil {
		return LatencyResult{}, err
	}
	if err := r.worker.start(); err != nil {
		return LatencyResult{}, err
	}
	if err := r.until(ctx, r.o.WarmUp, func(moment) {}); err != nil {
		return LatencyResult{}, err
	}
	return r.latency(ctx)
}

// steady is a stretch of events at a steady rate, numbered from first on; measured ones from begin on.
type steady struct {
	first, begin int
	committed    []time.Time  // of the writer until it has ended
	arrived      []time.Time  // of the reader
	missing      int          // of the reader
	late         int          // measured transactions that began too late
	ended        atomic.Int64 // when the writer ended, in Unix nanoseconds; 0 before
}

func (r *run) latency(ctx context.Context) (LatencyResult, error) {
	unmeasured := r.o.Rate * int(settle/time.Second)
	total := unmeasured + int(float64(r.o.Rate)*r.o.Duration.Seconds())
	s := &steady{first: r.o.WarmUp, begin: r.o.WarmUp + unmeasured, missing: total,
		committed: make([]time.Time, total), arrived: make([]time.Time, total)}

	var before moment
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() error { return r.topic.read(bothCtx, s.arrive, s.done) })
	both.Go(func() (err error) {
		before, err = r.write(bothCtx, s)
		s.ended.Store(time.Now().UnixNano())
		return err
	})
	if err := both.Wait(); err != nil {
		return LatencyResult{}, err
	}
	after, err := r.look(ctx)
	if err != nil {
		return LatencyResult{}, err
	}
	if s.missing > 0 {
		return LatencyResult{}, fmt.Errorf("%d of %d events have not arrived %v after the last commit", s.missing, total, overdue)
	}
	return r.latencies(ctx, s, before, after)
}

// write writes the stretch and returns the look at the run when the measured part began.
func (r *run) write(ctx context.Context, s *steady) (before moment, err error) {
	if err := r.pace(ctx, s, s.first, s.begin); err != nil {
		return before, err
	}
	s.late = 0
	if before, err = r.look(ctx); err != nil {
		return before, err
	}
	if err := r.addSender(ctx, &before); err != nil {
		return before, err
	}
	return before, r.pace(ctx, s, s.begin, s.first+len(s.committed))
}

// pace writes events from to to-1, each when it is due; what is late is written at once, so that the rate is kept on average.
func (r *run) pace(ctx context.Context, s *steady, from, to int) error {
	rows := 1
	if r.o.Rate > 500 {
		rows = 4
	}
	begin, told := time.Now(), time.Now()
	for n := from; n < to; n += rows {
		due := begin.Add(time.Duration(n-from) * time.Second / time.Duration(r.o.Rate))
		if err := pause(ctx, time.Until(due)); err != nil {
			return err
		}
		if time.Since(due) > late {
			s.late++
		}
		count := min(rows, to-n)
		if err := r.inserter.insert(ctx, n, count); err != nil {
			return err
		}
		now := time.Now()
		for i := range count {
			s.committed[n-s.first+i] = now
		}
		if now.Sub(told) > 5*time.Second {
			told = now
			r.progress(fmt.Sprintf("%d of %d events at %d/s", n-s.first, len(s.committed), r.o.Rate))
		}
	}
	return nil
}

func (s *steady) arrive(n int, at time.Time) {
	if i := n - s.first; i >= 0 && i < len(s.arrived) && s.arrived[i].IsZero() {
		s.arrived[i] = at
		s.missing--
	}
}

func (s *steady) done() bool {
	ended := s.ended.Load()
	return ended != 0 && (s.missing == 0 || time.Since(time.Unix(0, ended)) > overdue)
}

func (r *run) latencies(ctx context.Context, s *steady, before, after moment) (LatencyResult, error) {
	if err := r.addSender(ctx, &after); err != nil {
		return LatencyResult{}, err
	}
	var took []float64
	for i := s.begin - s.first; i < len(s.arrived); i++ {
		took = append(took, s.arrived[i].Sub(s.committed[i]).Seconds()*1000)
	}
	slices.Sort(took)
	return LatencyResult{
		Setting: r.o.Label, Rate: r.o.Rate, Events: len(took),
		P50: measure.Percentile(took, 0.5), P99: measure.Percentile(took, 0.99), Max: took[len(took)-1],
		CPU:       perMillion(after.worker-before.worker, len(took)),
		SenderCPU: perMillion(after.sender-before.sender, len(took)),
		PeakMB:    r.peakMB(), Late: s.late,
	}, nil
}
