package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/test/bench/measure"
)

// drained is what one drain took.
type drained struct {
	rate      float64 // events a second between the first and the last becoming visible
	rateStart float64 // events a second from the start of the process to the last becoming visible
	cpu       float64 // CPU seconds of the relay per million events, between the same instants as rate
	cpuAll    float64 // the same from the start of the process on
	broker    float64 // CPU seconds of Kafka per million, from the start of the process on
	postgres  float64 // CPU seconds of all processes of PostgreSQL per million, likewise
	others    float64 // cores busy with anything else meanwhile: what spoils the measurement
	toFirst   time.Duration
	memory    measure.Memory
}

// drain starts a relay on a site that has a backlog of n events, and returns when all are visible and counted.
func (s *site) drain(ctx context.Context, n int64) (d drained, err error) {
	r := s.rig
	broker, postgres, all := measure.CPU(r.kafka.PID()), measure.TreeCPU(r.postgres.PID()), measure.BusyCPU()
	ours := r.ownCPU()
	relay, err := s.startRelay()
	if err != nil {
		return d, err
	}
	defer relay.kill() // in case of an error; it does nothing after the orderly stop below
	begun := false
	profile := func() error { return nil }
	first, end, err := s.watch(ctx, relay, n, func(instant) error {
		if !begun {
			begun, profile = true, relay.profile(ctx, s.name)
		}
		return nil
	})
	if err != nil {
		return d, err
	}
	took := end.at.Sub(first.at)
	rest := end.total - first.total // the markers in it, one a transaction and partition, are far below a percent
	d = drained{
		rate: perSecond(rest, took), rateStart: perSecond(n, end.at.Sub(relay.started)),
		cpu: perMillion(end.cpu-first.cpu, rest), cpuAll: perMillion(end.cpu, n),
		broker:   perMillion(measure.CPU(r.kafka.PID())-broker, n),
		postgres: perMillion(measure.TreeCPU(r.postgres.PID())-postgres, n),
		toFirst:  first.at.Sub(relay.started),
		memory:   measure.MemoryOf(relay.pid()),
	}
	used := measure.BusyCPU() - all - (r.ownCPU() - ours) - relay.cpu() -
		(measure.CPU(r.kafka.PID()) - broker) - (measure.TreeCPU(r.postgres.PID()) - postgres)
	d.others = max(0, used/time.Since(relay.started).Seconds())
	if err := profile(); err != nil {
		return d, err
	}
	relay.stop()
	return d, nil
}

// drainOnce loads n events, drains and counts them.
func (r *rig) drainOnce(ctx context.Context, base string, n int64, then func(*site, drained) error) error {
	s, err := r.newSite(ctx, base)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if err := s.load(ctx, n, loadPerTx); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	d, err := s.drain(ctx, n)
	if err != nil {
		return err
	}
	c, err := s.count(ctx, n, r.takeSample)
	if err != nil {
		return err
	}
	if err := c.err(); err != nil {
		return err
	}
	return then(s, d)
}

// drainCase measures the drain of a backlog and, in between, both ceilings.
func (r *rig) drainCase(ctx context.Context) error {
	if err := r.warmUp(ctx); err != nil {
		return err
	}
	n := r.opts.Events
	for rep := range r.opts.Reps {
		r.say("drain %d of %d: %s events", rep+1, r.opts.Reps, thousands(n))
		err := r.drainOnce(ctx, "drain", n, func(s *site, d drained) error {
			read, err := s.readCeiling(ctx, n)
			if err != nil {
				return err
			}
			made, err := r.produceCeiling(ctx, n)
			if err != nil {
				return err
			}
			r.drainRows(n, d, made, read)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) drainRows(n int64, d drained, made produced, read float64) {
	c := r.report.in("drain " + thousands(n))
	c.row("events a second, exactly-once", "1/s", d.rate)
	c.row("part of the produce ceiling", "", d.rate/made.rate, atLeast(0.6))
	c.row("part of the bare read", "", d.rate/read)
	c.row("relay CPU per million events", "s", d.cpu, atMost(3))
	c.row("relay CPU per million, start included", "s", d.cpuAll)
	c.row("events a second from process start", "1/s", d.rateStart)
	c.row("process start to first event, no topic yet", "s", d.toFirst.Seconds())
	c.row("relay memory, peak resident", "MiB", d.memory.Peak)
	c.row("relay memory at the end, without file pages", "MiB", d.memory.Anon)
	c.row("broker CPU per million", "s", d.broker)
	c.row("Postgres CPU per million", "s", d.postgres)
	c.row("ceiling: produce from memory", "1/s", made.rate)
	c.row("ceiling: producer's CPU per million", "s", made.cpu)
	c.row("ceiling: bare read", "1/s", read)
	c.row("cores busy with other things", "", d.others)
	r.say("%s events/s, %.2f of the produce ceiling (%s/s), %.2f s CPU per million", thousands(int64(d.rate)), d.rate/made.rate, thousands(int64(made.rate)), d.cpu)
}

// warmUp lets the broker compile what it will run, and takes the sample for the ceiling. What it measures is thrown away.
func (r *rig) warmUp(ctx context.Context) error {
	if r.opts.Warmup == 0 || r.warm {
		return nil
	}
	r.warm = true
	r.say("warm-up: %s events", thousands(r.opts.Warmup))
	return r.drainOnce(ctx, "warmup", r.opts.Warmup, func(*site, drained) error {
		if _, err := r.produceCeiling(ctx, r.opts.Warmup); err != nil {
			return fmt.Errorf("warm-up: %w", err)
		}
		return nil
	})
}
