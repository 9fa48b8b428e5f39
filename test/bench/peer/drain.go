package peer

import (
	"context"
	"errors"
	"time"
)

// Result is a drain of a backlog. CPU times are the worker process's alone, in seconds for a million events.
type Result struct {
	Setting string `json:"setting"` // Options.Label
	Events  int    `json:"events"`
	// EventsPerSecond is from the first event in the topic to the last.
	EventsPerSecond float64 `json:"events_per_second"`
	// SecondHalf is the rate over the second half of the events, when most is compiled.
	SecondHalf float64 `json:"second_half_events_per_second"`
	// FirstEvent is the time from the start of the process to its first event in the topic, in seconds.
	FirstEvent float64 `json:"start_to_first_event_seconds"`
	// CPU is over the same events as EventsPerSecond; what the start took is not in it.
	CPU           float64 `json:"cpu_seconds_per_million"`
	SecondHalfCPU float64 `json:"second_half_cpu_seconds_per_million"`
	// SenderCPU is of Postgres's process that reads the log and sends the slot's changes, the worker's whole run; 0 where it cannot be seen.
	SenderCPU float64 `json:"wal_sender_cpu_seconds_per_million"`
	PeakMB    float64 `json:"peak_resident_mb"`
}

// Drain measures how fast a backlog of N events is sent.
func Drain(ctx context.Context, o Options, progress func(string)) (result Result, err error) {
	r, err := newRun(ctx, o, "drain", progress)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.inserter.load(ctx, 0, r.o.N, r.progress); err != nil {
		return Result{}, err
	}
	return r.drain(ctx)
}

func (r *run) drain(ctx context.Context) (Result, error) {
	begin := time.Now()
	if err := r.worker.start(); err != nil {
		return Result{}, err
	}
	var first, half, last moment
	err := r.until(ctx, r.o.N, func(m moment) {
		if first.records == 0 {
			first = m
		}
		if half.records < r.o.N/2 {
			half = m
		}
		last = m
	})
	if err != nil {
		return Result{}, err
	}
	if err := r.addSender(ctx, &last); err != nil {
		return Result{}, err
	}
	return Result{
		Setting: r.o.Label, Events: r.o.N,
		EventsPerSecond: rate(first, last), SecondHalf: rate(half, last),
		FirstEvent: first.at.Sub(begin).Seconds(),
		CPU:        cpuOf(first, last), SecondHalfCPU: cpuOf(half, last),
		SenderCPU: perMillion(last.sender, last.records), PeakMB: r.peakMB(),
	}, nil
}

// rate returns the events per second between two looks, 0 if there is nothing between them.
func rate(from, to moment) float64 {
	if d := to.at.Sub(from.at); d > 0 {
		return float64(to.records-from.records) / d.Seconds()
	}
	return 0
}

func cpuOf(from, to moment) float64 {
	return perMillion(to.worker-from.worker, to.records-from.records)
}

// perMillion scales the CPU seconds of n events to a million of them.
func perMillion(cpu float64, n int) float64 {
	if n <= 0 {
		return 0
	}
	return cpu * 1e6 / float64(n)
}
