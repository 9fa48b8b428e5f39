package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/cache/client"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/services/shop"
)

const (
	watchEvery   = 120 * time.Millisecond
	killAt       = 0.45             // share of the events after which the relay is killed
	downFor      = 2 * time.Second  // how long it stays dead, in plain sight
	catchUpLimit = 10 * time.Minute // after the last event
)

// run is the part of the demo that is watched live.
type run struct {
	*demo
	view   view
	adm    *kadm.Client
	killed bool
	closed bool // the shop was told to close before it was done
	// meters are by stage.
	meters map[string]*meter
	last   stats
}

// rate is how fast a stage's count has grown of late.
func (r *run) rate(stage string, n int64) float64 {
	if r.meters[stage] == nil {
		r.meters[stage] = &meter{}
	}
	return r.meters[stage].rate(n, time.Now())
}

// drive runs the shop, kills the relay in mid-run, and waits until every sink has everything.
func (d *demo) drive(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r := &run{demo: d, meters: map[string]*meter{}}
	if err := d.openShop(ctx); err != nil {
		return err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.world.brokers...))
	if err != nil {
		return err
	}
	defer cl.Close()
	r.adm = kadm.NewClient(cl)

	d.start = time.Now()
	r.view = &plain{out: d.cfg.Out, start: d.start}
	if d.cfg.Terminal {
		r.view = newLive(d.cfg.Out, d.start, d.interrupt)
	}
	working := make(chan error, 1)
	go func() {
		defer close(working)
		working <- r.shop.Run(ctx)
	}()
	err = r.watch(ctx, working)
	stop()
	for range working { // until the shop has ended, whatever came of the watch
	}
	r.view.close()
	return err
}

func (d *demo) openShop(ctx context.Context) error {
	catalogue, err := schemas.LoadDir(d.site.dir + "/schemas")
	if err != nil {
		return err
	}
	cache, err := client.New(client.Config{URL: d.world.redis, Prefix: d.world.cachePrefix()})
	if err != nil {
		return err
	}
	d.world.atEnd(cache.Close)
	applied, err := d.applied()
	if err != nil {
		return err
	}
	d.shop, err = shop.New(ctx, shop.Config{
		Pool: d.pool, Catalogue: catalogue, Events: d.cfg.Events, Rate: max(d.cfg.Rate, 0), Seed: d.cfg.Seed, Cache: cache, Logger: quiet,
		Applied: applied,
	})
	return err
}

// watch shows the run until the shop is done and every sink has everything.
func (r *run) watch(ctx context.Context, working <-chan error) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var deadline <-chan time.Time
	for {
		select {
		case err := <-working:
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			working, deadline = nil, time.After(catchUpLimit)
			if err := r.count(ctx); err != nil {
				return err
			}
			r.view.event(closing(r.total, r.cfg), false)
		case <-deadline:
			return fmt.Errorf("the sinks did not catch up within %s", catchUpLimit)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		r.look(ctx)
		if err := r.alive(); err != nil {
			return err
		}
		switch share := r.share(); {
		case !r.killed && share >= killAt:
			if err := r.kill(ctx); err != nil {
				return err
			}
		case !r.closed && share >= 1 && r.last.shop.committed < r.cfg.Events:
			r.closed = true
			r.shop.Close()
		}
		if working == nil && r.caughtUp(ctx) {
			r.look(ctx)
			r.view.event("every sink has everything", false)
			return nil
		}
	}
}

// closing tells how many events the shop wrote, and why not more.
func closing(total int64, cfg Config) string {
	if total >= cfg.Events {
		return fmt.Sprintf("the shop closes after %s events; what is left is on its way", number(total))
	}
	return fmt.Sprintf("%s are over: the shop closes after %s events, not %s (--events %d takes its time); what is left is on its way",
		cfg.Open, number(total), number(cfg.Events), cfg.Events)
}

// share is how much of the run is over: of its events or, if it is bounded, of its time.
func (r *run) share() float64 {
	share := float64(r.last.shop.committed) / float64(r.cfg.Events)
	if r.cfg.Open > 0 {
		share = max(share, time.Since(r.start).Seconds()/r.cfg.Open.Seconds())
	}
	return share
}

// count asks the database how many events there are: of a commit whose answer was lost nobody else knows.
func (r *run) count(ctx context.Context) error {
	err := r.pool.QueryRow(ctx, "select count(*) from outbox.event").Scan(&r.total)
	if err != nil {
		return fmt.Errorf("count the committed events: %w", err)
	}
	return nil
}

// alive returns an error if a child has ended by itself.
func (r *run) alive() error { return errors.Join(r.relay.ended(), r.sinks.ended()) }

// kill ends the relay with SIGKILL, lets the outbox fill for a moment, and starts it again.
func (r *run) kill(ctx context.Context) error {
	r.killed = true
	pid := r.relay.pid()
	r.relay.kill()
	r.view.event(fmt.Sprintf("kill -9 %d   the relay is dead in mid-run; the shop goes on", pid), true)
	for until := time.Now().Add(downFor); time.Now().Before(until) && ctx.Err() == nil; {
		r.look(ctx)
		time.Sleep(watchEvery)
	}
	waiting := r.last.relay.behind
	if err := r.startRelay(); err != nil {
		return err
	}
	r.view.event(fmt.Sprintf("started again as %d; %s events wait in the outbox", r.relay.pid(), number(waiting)), false)
	began := time.Now()
	for ctx.Err() == nil && time.Since(began) < catchUpLimit {
		r.look(ctx)
		if err := r.alive(); err != nil {
			return err
		}
		if !r.last.relay.down && r.last.relay.published > 0 && r.last.relay.behind < waiting/10+100 {
			r.view.event(fmt.Sprintf("it went on from its cursor and has caught up, %s after its start", short(time.Since(began))), false)
			return nil
		}
		time.Sleep(watchEvery)
	}
	return ctx.Err()
}

// look asks everybody how far they are, and shows it.
func (r *run) look(ctx context.Context) {
	p := r.shop.Progress()
	s := stats{elapsed: time.Since(r.start), reads: readStats{p.Views, p.Hits, p.Stale, r.rate("visitors", p.Views)}}
	s.shop = shopStats{committed: p.Events, target: max(r.cfg.Events, p.Events), rolledBack: p.RolledBack, rate: r.rate("shop", p.Events)}
	s.shop.atMost = r.cfg.Open > 0 && !r.closed
	if r.closed {
		s.shop.target = p.Events
	}
	s.relay = r.lookAtRelay(ctx, p.Events)
	sinks, err := r.site.sinkStatuses(ctx, r.world)
	if err != nil {
		sinks = slices.Clone(r.last.sinks)
	}
	if ends, err := r.ends(ctx); err == nil {
		for i := range sinks {
			sinks[i].lag = behind(sinks[i].positions, ends)
		}
	}
	if sinks == nil {
		for _, role := range roles {
			sinks = append(sinks, sinkStats{role: role})
		}
	}
	for i := range sinks {
		// Both numbers are a moment old, and not of the same moment: the count never goes back.
		if sinks[i].ok {
			sinks[i].applied = max(0, s.relay.published-sinks[i].lag)
		}
		if i < len(r.last.sinks) {
			sinks[i].applied = max(sinks[i].applied, r.last.sinks[i].applied)
		}
		sinks[i].rate = r.rate(sinks[i].role, sinks[i].applied)
	}
	s.sinks = sinks
	r.last = s
	r.view.show(s)
}

func (r *run) lookAtRelay(ctx context.Context, committed int64) relayStats {
	a, err := r.site.relayStatus(ctx, r.world)
	out := relayStats{pid: r.relay.pid(), published: a.Seq, state: a.State}
	switch {
	case r.relay.ended() != nil:
		out.down, out.state = true, "dead"
	case err != nil || a.State != "leading":
		out.down, out.state = true, "starting"
	}
	out.published = max(out.published, r.last.relay.published)
	out.behind = max(0, committed-out.published)
	out.rate = r.rate("relay", out.published)
	return out
}

// caughtUp says whether the relay has published everything and every sink has applied it: positions are held against the ends of
// the topics, asked for after the last event was published.
func (r *run) caughtUp(ctx context.Context) bool {
	a, err := r.site.relayStatus(ctx, r.world)
	if err != nil || a.Seq+a.Parked < r.total {
		return false
	}
	ends, err := r.ends(ctx)
	if err != nil {
		return false
	}
	sinks, err := r.site.sinkStatuses(ctx, r.world)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(sinks, func(k sinkStats) bool { return behind(k.positions, ends) > 0 })
}

// ends are the ends of the topics, by place: what is committed.
func (r *run) ends(ctx context.Context) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, children.Timeout)
	defer cancel()
	list, err := r.adm.ListCommittedOffsets(ctx, r.world.topics()...)
	if err = errors.Join(err, list.Error()); err != nil {
		return nil, err
	}
	ends := map[string]int64{}
	list.Each(func(o kadm.ListedOffset) { ends[place(o.Topic, o.Partition)] = o.Offset })
	return ends, nil
}

// behind is how many offsets lie between positions and ends.
func behind(positions, ends map[string]int64) (n int64) {
	for at, end := range ends {
		n += max(0, end-max(0, positions[at]))
	}
	return n
}
