package bench

import (
	"context"
	"os"
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
	peakAnon  float64 // the most memory without pages of files, in MiB, seen every tenth of a second
}

// drain starts a relay on a site that has a backlog of n events, and stops it when all are visible.
func (s *site) drain(ctx context.Context, n int64) (drained, error) {
	d, relay, err := s.drainBy(ctx, n)
	if relay != nil {
		relay.stop()
	}
	return d, err
}

// drainBy is drain with a relay that goes on; the caller stops it. It is nil after an error.
func (s *site) drainBy(ctx context.Context, n int64) (d drained, _ *relay, err error) {
	u := s.rig.usage()
	relay, err := s.startRelay()
	if err != nil {
		return d, nil, err
	}
	defer func() {
		if err != nil {
			relay.kill()
		}
	}()
	eye := &drainEye{relay: relay, profile: func() error { return nil }}
	first, end, err := s.watch(ctx, relay, n, func(now instant) error { eye.look(ctx, now); return nil })
	if err != nil {
		return d, nil, err
	}
	took := end.at.Sub(first.at)
	rest := end.total - first.total // the markers in it, one a transaction and partition, are far below a percent
	now := s.rig.usage()
	d = drained{
		rate: perSecond(rest, took), rateStart: perSecond(n, end.at.Sub(relay.started)),
		cpu: perMillion(end.cpu-first.cpu, rest), cpuAll: perMillion(end.cpu, n),
		broker:   perMillion(now.broker-u.broker, n),
		postgres: perMillion(now.postgres-u.postgres, n),
		toFirst:  first.at.Sub(relay.started),
		memory:   measure.MemoryOf(relay.pid()), peakAnon: eye.peakAnon,
	}
	foreign := (now.machine - u.machine) - (now.known() - u.known()) - relay.cpu()
	d.others = max(0, foreign/time.Since(relay.started).Seconds())
	return d, relay, eye.profile()
}

// drainEye looks at a relay while it drains.
type drainEye struct {
	relay    *relay
	begun    bool
	profile  func() error
	looked   time.Time
	peakAnon float64
}

func (e *drainEye) look(ctx context.Context, now instant) {
	if !e.begun {
		e.begun, e.profile = true, e.relay.profile(ctx, e.relay.site.name)
	}
	if now.at.Sub(e.looked) > 100*time.Millisecond {
		e.looked, e.peakAnon = now.at, max(e.peakAnon, measure.MemoryOf(e.relay.pid()).Anon)
	}
}

// usage is the CPU time used so far, in seconds.
type usage struct{ broker, postgres, own, registry, machine float64 }

func (r *rig) usage() usage {
	return usage{
		broker: measure.CPU(r.kafka.PID()), postgres: measure.TreeCPU(r.postgres.PID()),
		own: measure.CPU(os.Getpid()), registry: measure.CPU(r.registry.PID()), machine: measure.BusyCPU(),
	}
}

// known is what belongs to the run, but for the relay.
func (u usage) known() float64 { return u.broker + u.postgres + u.own + u.registry }

// drainOnce loads n events, drains and counts them.
func (r *rig) drainOnce(ctx context.Context, base string, n int64, then func(*site, drained) error) error {
	s, err := r.newSite(ctx, base)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if err := s.load(ctx, 0, n, loadPerTx); err != nil {
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
			return r.drainPeer(ctx, n, d.rate)
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
	c.row("ceiling: broker's CPU per million", "s", made.broker)
	c.row("ceiling: bare read", "1/s", read)
	c.row("cores busy with other things", "", d.others)
	r.say("%s events/s, %.2f of the produce ceiling (%s/s), %.2f s CPU per million", thousands(int64(d.rate)), d.rate/made.rate, thousands(int64(made.rate)), d.cpu)
}
