package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/bench/measure"
)

// How live traffic is made and looked at.
const (
	liveTick    = 10 * time.Millisecond
	liveWarm    = 5 * time.Second // of live traffic that is not measured
	liveAfter   = 5 * time.Second // after the swap
	readerPause = 5 * time.Millisecond
)

// liveCase measures a rebuild while events keep coming: how far the sink that serves falls behind, how long it applies nothing when readers are moved, and how long
// readers wait.
func (r *rebuildRig) liveCase(ctx context.Context, s rebuiltStore) error {
	if err := r.warmSinks(ctx); err != nil {
		return err
	}
	c := r.report.in(fmt.Sprintf("rebuild under %s/s live, %s, %s, %s", thousands(int64(r.o.Rate)), s.title, laneWords(s.lanes), thousands(r.events(s))))
	for rep := range r.o.Reps {
		r.say("%s under live traffic, %d of %d", s.title, rep+1, r.o.Reps)
		if err := r.liveOnce(ctx, s, c); err != nil {
			return err
		}
	}
	return nil
}

func (r *rebuildRig) liveOnce(ctx context.Context, s rebuiltStore, c caseRows) (err error) {
	r.runs++
	t := saleTopic{name: fmt.Sprintf("bench.live_%d", r.runs), partitions: s.lanes, n: r.events(s)}
	if err := r.fill(ctx, t); err != nil {
		return err
	}
	place, err := s.open(r, ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.drop()) }()
	p, _, err := r.drained(ctx, place, t)
	if err != nil {
		return err
	}
	defer p.stop()
	live, err := r.startLive(ctx, p, place, t)
	if err != nil {
		return err
	}
	defer live.stop()
	b, began, err := r.rebuildLive(ctx, p)
	if err != nil {
		return errors.Join(err, live.err())
	}
	n := live.stop()
	if err := errors.Join(live.err(), p.reaches(ctx, n), place.holds(ctx, p, n)); err != nil {
		return err
	}
	return r.liveRows(c, live, b, began)
}

// rebuildLive rebuilds after a while of traffic alone; began is when that was over which is not measured.
func (r *rebuildRig) rebuildLive(ctx context.Context, p *sinkProcess) (b *rebuilding, began time.Time, err error) {
	if err := pause(ctx, liveWarm); err != nil {
		return nil, began, err
	}
	began = time.Now()
	if err := pause(ctx, r.o.Before); err != nil {
		return nil, began, err
	}
	if b, err = r.rebuild(ctx, p); err != nil {
		return nil, began, err
	}
	return b, began, pause(ctx, liveAfter)
}

// liveRows are what came of it.
func (r *rebuildRig) liveRows(c caseRows, live *liveTraffic, b *rebuilding, began time.Time) error {
	first, end, err := b.built()
	if err != nil {
		return err
	}
	serves := b.since[rebuild.Soaking]
	cutting, seen := b.since[rebuild.CuttingOver]
	if !seen { // both were there at the same look
		cutting = serves
	}
	before, during, over := live.between(began, b.asked), live.between(b.since[rebuild.Building], cutting), live.between(cutting, serves.Add(liveAfter))
	most := rebuild.DefaultMaxLag.Seconds()
	before.rows(c, "before", nil)
	during.rows(c, "while it is built and compared", []target{atMost(most)})
	over.rows(c, "at the cut-over and after", []target{atMost(most)})
	c.row("looks at which the build was held back", "", float64(b.waited))
	c.row("rebuild: events a second", "1/s", perSecond(end.total-first.total, end.at.Sub(first.at)))
	r.phases(c, b)
	c.row("live events as written", "1/s", live.rate())
	r.say("lag before %.3f s at most, while it is built %.3f s, at the cut-over %.3f s; nothing applied for %.2f s; readers waited %.0f, %.0f, %.0f ms at most", before.worst(), during.worst(), over.worst(),
		over.still.Seconds(), before.slowest, during.slowest, over.slowest)
	return nil
}

// liveWindow is what was seen in a stretch of time.
type liveWindow struct {
	seconds, events []float64
	still           time.Duration // the longest time in which nothing was applied
	reads           []float64
	slowest         float64
}

// between is what was seen between two moments. An answer counts where its question was asked.
func (l *liveTraffic) between(from, to time.Time) (w liveWindow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	moved, applied := from, int64(-1)
	for _, look := range l.looks {
		if look.at.Before(from) || look.at.After(to) {
			continue
		}
		w.seconds, w.events = append(w.seconds, look.seconds), append(w.events, float64(look.events))
		if look.applied > applied {
			if applied >= 0 {
				w.still = max(w.still, look.at.Sub(moved))
			}
			moved, applied = look.at, look.applied
		}
	}
	for _, read := range l.reads {
		if !read.at.Before(from) && read.at.Before(to) {
			w.reads = append(w.reads, read.ms)
		}
	}
	for _, all := range [][]float64{w.seconds, w.events, w.reads} {
		slices.Sort(all)
	}
	if n := len(w.reads); n > 0 {
		w.slowest = w.reads[n-1]
	}
	return w
}

func (w liveWindow) worst() float64 {
	if len(w.seconds) == 0 {
		return math.NaN()
	}
	return w.seconds[len(w.seconds)-1]
}

func (w liveWindow) rows(c caseRows, when string, most []target) {
	if len(w.seconds) == 0 {
		return
	}
	c.row("lag "+when+", p50", "s", measure.Percentile(w.seconds, 0.5))
	c.row("lag "+when+", p99", "s", measure.Percentile(w.seconds, 0.99))
	c.row("lag "+when+", max", "s", w.worst(), most...)
	c.row("lag in events "+when+", p50", "", measure.Percentile(w.events, 0.5))
	c.row("lag in events "+when+", p99", "", measure.Percentile(w.events, 0.99))
	c.row("lag in events "+when+", max", "", w.events[len(w.events)-1])
	c.row("nothing applied "+when+", longest", "s", w.still.Seconds())
	if len(w.reads) > 0 {
		c.row("readers "+when+", p50", "ms", measure.Percentile(w.reads, 0.5))
		c.row("readers "+when+", p99", "ms", measure.Percentile(w.reads, 0.99))
		c.row("readers "+when+", longest answer", "ms", w.slowest)
	}
}
