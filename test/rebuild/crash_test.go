package rebuild

import (
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/harness"
)

// The points at which the process that leads a rebuild is killed, in the order in which it comes to them. Each state has one, reached when its record is written
// and nothing of it is done.
var (
	building = []string{"rebuild-planned", "rebuild-building", "rebuild-work-begun", "rebuild-catching-up", "rebuild-verifying", "rebuild-held", "rebuild-compared", "rebuild-refused"}
	swapping = []string{"rebuild-cutting-over", "rebuild-fenced", "rebuild-serve", "rebuild-served", "rebuild-soaking", "rebuild-following"}
	leaving  = []string{"rebuild-cutting-over", "rebuild-fenced", "rebuild-serve", "rebuild-served", "rebuild-retiring", "rebuild-remove", "rebuild-removed"}
)

// killedAt is how many points of a part a short run takes.
const killedAt = 3

// Promise 8: a rebuild goes on from its record, whoever is killed in whatever state: building, swapping, rolling back, removing. Somebody reads all the time, under
// load, and sees no gap and no step back in time; what is left in the end is what the topic makes.
//
// A run takes one kind of sink and some of the points, as the seed says; with MILLRACE_TEST_FULL=1 all kinds and all points.
func TestPromise8_KilledInEveryState(t *testing.T) {
	t.Parallel()
	kind, rng := some(t, 1, kinds...), rand.New(rand.NewPCG(seed(t), 1))
	choose := func(points []string) []string {
		if full() {
			return points
		}
		var out []string
		for i, p := range points {
			if rng.IntN(len(points)-i) < killedAt-len(out) {
				out = append(out, p)
			}
		}
		return out
	}
	for _, kind := range kind {
		for part, run := range map[string]func(*rig){
			"building":     func(r *rig) { r.killedBuilding(choose(building)) },
			"swapping":     func(r *rig) { r.killedSwapping(choose(swapping)) },
			"rolling back": func(r *rig) { r.killedRollingBack(choose(leaving)) },
			"removing":     func(r *rig) { r.killedRemoving([]string{"rebuild-retiring", "rebuild-remove", "rebuild-removed"}) },
		} {
			t.Run(kind+"/"+part, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, kind, "")
				r.fill(1200)
				r.startCrashing("")
				r.ready()
				reader := r.watch()
				r.load()
				reader.more()
				r.stop()
				r.declare(newFee)
				run(r)
				reader.more()
				r.unload()
				r.caughtUp()
				reader.end()
			})
		}
	}
}

// startCrashing starts a process that kills itself at a point; "" for one that does not.
func (r *rig) startCrashing(point string) *process {
	r.t.Helper()
	binary := harness.CrashBinary
	if r.kind == "duckdb" {
		binary = harness.CrashBinaryWithCgo
	}
	p := r.startAs(binary(r.t), "MILLRACE_CRASH_POINT="+point)
	p.killed.Store(point != "")
	return p
}

// dies waits until the process has killed itself, and starts the next one, which dies at the next point.
func (r *rig) dies(point, next string) {
	r.t.Helper()
	p := r.process()
	p.WaitLine(r.t, "crash point "+point, patience)
	if code := p.Wait(r.t, patience); code != -1 {
		r.t.Fatalf("at %s the process ended with %d, and not by its own hand:\n%s", point, code, p.Output())
	}
	r.startCrashing(next)
}

// killedOneByOne starts processes that kill themselves, one after the other, and leaves one that lives. act is done when the first one runs.
func (r *rig) killedOneByOne(points []string, act func()) {
	r.t.Helper()
	r.startCrashing(points[0])
	act()
	for i, point := range points {
		next := ""
		if i+1 < len(points) {
			next = points[i+1]
		}
		r.t.Logf("%s: killed at %s", r.kind, point)
		r.dies(point, next)
	}
}

func (r *rig) killedBuilding(points []string) {
	r.t.Helper()
	r.killedOneByOne(points, func() { r.begin() })
	r.in(rebuild.Refused)
	if rec := r.read(); rec.Serving != 1 || rec.Rebuild.Comparison == nil || !rec.Rebuild.Comparison.Acceptable {
		r.t.Errorf("it is\n%s", shown(rec))
	}
	r.ok("rebuild", "accept", r.name)
	r.servesBoth()
}

func (r *rig) killedSwapping(points []string) {
	r.t.Helper()
	r.startCrashing("")
	r.caughtUp()
	r.refused("fee", "rebuild", r.name)
	r.stop()
	r.killedOneByOne(points, func() { r.ok("rebuild", "accept", r.name, "--detach") })
	r.in(rebuild.Soaking)
	r.servesBoth()
}

func (r *rig) killedRollingBack(points []string) {
	r.t.Helper()
	r.startCrashing("")
	r.caughtUp()
	r.ok("rebuild", r.name, "--accept-changes")
	r.stop()
	r.killedOneByOne(points, func() { r.ok("rebuild", "rollback", r.name, "--detach") })
	if rec := r.over("rolled-back"); rec.Serving != 1 || len(rec.Generations) != 1 {
		r.t.Errorf("it is\n%s", shown(rec))
	}
	r.servesOnly(1, 2)
}

func (r *rig) killedRemoving(points []string) {
	r.t.Helper()
	r.startCrashing("")
	r.caughtUp()
	r.ok("rebuild", r.name, "--accept-changes")
	r.stop()
	r.killedOneByOne(points, func() { r.ok("rebuild", "finish", r.name, "--detach") })
	if rec := r.over("done"); rec.Serving != 2 || len(rec.Generations) != 1 {
		r.t.Errorf("it is\n%s", shown(rec))
	}
	r.servesOnly(2, 1)
}

// servesBoth makes sure that both generations hold what their declarations make, the old one following, and goes on.
func (r *rig) servesBoth() {
	r.t.Helper()
	if rec := r.read(); rec.Serving != 2 || rec.Rebuild == nil || rec.Rebuild.State != rebuild.Soaking {
		r.t.Fatalf("it is\n%s", shown(rec))
	}
	r.stillWith(func() {
		r.holds(2, 3)
		r.declare(oldFee)
		r.holds(1, 2)
		r.declare(newFee)
	})
}

// servesOnly makes sure that one generation holds what its declaration makes, and the other one is gone.
func (r *rig) servesOnly(generation, gone int) {
	r.t.Helper()
	r.stillWith(func() {
		fee, rule := int64(2), oldFee
		if generation > 1 {
			fee, rule = 3, newFee
		}
		r.declare(rule)
		r.holds(generation, fee)
		r.declare(newFee)
		r.gone(gone)
	})
}

// stillWith stops the load, and the sink when it has everything, looks, and starts both again.
func (r *rig) stillWith(look func()) {
	r.t.Helper()
	r.unload()
	r.caughtUp()
	r.followed()
	r.stop()
	look()
	r.startCrashing("")
	r.load()
}
