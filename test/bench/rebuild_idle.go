package bench

import (
	"context"
	"errors"
	"time"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/bench/measure"
)

// leastRebuilt is the part of the drain's rate that a rebuild is to have.
const leastRebuilt = 0.8

func (r *rebuildRig) events(s rebuiltStore) int64 {
	if s.small {
		return r.o.BleveEvents
	}
	return r.o.Events
}

// idleCase measures a rebuild against the drain before it, of the same sink and the same events.
func (r *rebuildRig) idleCase(ctx context.Context, s rebuiltStore) error {
	if err := r.warmSinks(ctx); err != nil {
		return err
	}
	t, err := r.sales(ctx, s.lanes, r.events(s))
	if err != nil {
		return err
	}
	c := r.report.in("rebuild, " + s.title + ", " + laneWords(s.lanes) + ", " + thousands(t.n))
	for rep := range r.o.Reps {
		r.say("%s, %d of %d", s.title, rep+1, r.o.Reps)
		if err := r.idleOnce(ctx, s, t, c); err != nil {
			return err
		}
	}
	return nil
}

func (r *rebuildRig) idleOnce(ctx context.Context, s rebuiltStore, t saleTopic, c caseRows) (err error) {
	place, err := s.open(r, ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.drop()) }()
	p, drained, err := r.drained(ctx, place, t)
	if err != nil {
		return err
	}
	defer p.stop()
	began, busy, own := time.Now(), r.sinkUsage(place.pid), measure.CPU(p.pid())
	b, err := r.rebuild(ctx, p)
	if err != nil {
		return err
	}
	now := r.sinkUsage(place.pid)
	if err := place.holds(ctx, p, t.n); err != nil {
		return err
	}
	first, end, err := b.built()
	if err != nil {
		return err
	}
	rate := perSecond(end.total-first.total, end.at.Sub(first.at))
	c.row("rebuild over drain", "", rate/drained.rate, atLeast(leastRebuilt))
	c.row("drain: events a second", "1/s", drained.rate)
	c.row("rebuild: events a second", "1/s", rate)
	c.row("drain: sink CPU per million events", "s", drained.cpu)
	c.row("rebuild: sink CPU per million events", "s", perMillion(end.cpu-first.cpu, end.total-first.total))
	r.phases(c, b)
	c.row("rebuild: CPU of the sink from asking to serving", "s", measure.CPU(p.pid())-own)
	if place.pid > 0 {
		c.row("rebuild: CPU of the server from asking to serving", "s", now.server-busy.server)
	}
	c.row("sink memory, peak resident", "MiB", measure.MemoryOf(p.pid()).Peak)
	foreign := (now.machine - busy.machine) - (now.known() - busy.known()) - (measure.CPU(p.pid()) - own)
	c.row("cores busy with other things", "", max(0, foreign/time.Since(began).Seconds()))
	r.say("drained at %s/s, rebuilt at %s/s: %.2f; compared in %.1f s, swapped in %.2f s", thousands(int64(drained.rate)), thousands(int64(rate)), rate/drained.rate,
		b.took(rebuild.Verifying, rebuild.CuttingOver, rebuild.Soaking).Seconds(), b.took(rebuild.CuttingOver, rebuild.Soaking).Seconds())
	return r.planCase(ctx, p, place, t, c)
}

// drained starts a sink on a topic that is full and waits until it has all of it. It goes on running.
func (r *rebuildRig) drained(ctx context.Context, place *rebuiltPlace, t saleTopic) (p *sinkProcess, d sinkDrained, err error) {
	p, err = r.startSink(sinkSetup{topic: t, lines: place.lines, declare: declareAll, pid: place.pid})
	if err != nil {
		return nil, d, err
	}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	profile := func() error { return nil }
	first, end, err := r.watchSink(ctx, p, t.n, &d, func() { profile = r.profileOf(ctx, p.base, p.name+"-drain") })
	if err != nil {
		return p, d, err
	}
	d.rate = perSecond(end.total-first.total, end.at.Sub(first.at))
	d.cpu = perMillion(end.cpu-first.cpu, end.total-first.total)
	if err := profile(); err != nil {
		return p, d, err
	}
	return p, d, r.recorded(ctx, p)
}

// recorded waits until the sink has written down what it runs by: before that it cannot be rebuilt.
func (r *rebuildRig) recorded(ctx context.Context, p *sinkProcess) error {
	found := errors.New("found")
	err := rebuild.Open(p.name, r.seeds()...).Follow(ctx, func(rec rebuild.Record) error {
		if rec.Generations[rec.Serving] != nil {
			return found
		}
		return nil
	})
	if errors.Is(err, found) {
		return nil
	}
	return errors.Join(err, context.Cause(ctx))
}

// phases are how long the states of a rebuild took.
func (r *rebuildRig) phases(c caseRows, b *rebuilding) {
	c.row("asked for to first event applied", "s", b.seen[0].at.Sub(b.asked).Seconds())
	c.row("building and catching up", "s", b.took(rebuild.Building, rebuild.Verifying).Seconds())
	c.row("comparing (verification)", "s", b.took(rebuild.Verifying, rebuild.CuttingOver, rebuild.Soaking).Seconds())
	c.row("cutting over", "s", b.took(rebuild.CuttingOver, rebuild.Soaking).Seconds())
	c.row("asked for to serving", "s", b.whole().Seconds())
}

// planCase asks for the plan of another rebuild, and sees how long that takes.
func (r *rebuildRig) planCase(ctx context.Context, p *sinkProcess, place *rebuiltPlace, t saleTopic, c caseRows) error {
	if _, err := r.command(ctx, p, "rebuild", "finish", p.name, "--timeout", "3m"); err != nil {
		return err
	}
	plan, err := r.plan(ctx, p)
	if err != nil {
		return err
	}
	b, err := r.rebuild(ctx, p)
	if err != nil {
		return err
	}
	if err := place.holds(ctx, p, t.n); err != nil {
		return err
	}
	took := b.took(rebuild.Building, rebuild.Verifying)
	c.row("plan of a second rebuild: time", "s", plan.Time.Seconds())
	c.row("second rebuild: building and catching up", "s", took.Seconds())
	c.row("second rebuild: asked for to serving", "s", b.whole().Seconds())
	c.row("plan over building", "", plan.Time.Seconds()/took.Seconds())
	c.row("plan over asked for to serving", "", plan.Time.Seconds()/b.whole().Seconds())
	r.say("the plan said %v for %s events at %s/s; building took %.1f s, all of it %.1f s", plan.Time, thousands(plan.Events), thousands(int64(plan.Rate)), took.Seconds(), b.whole().Seconds())
	return nil
}
