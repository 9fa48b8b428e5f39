package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/test/bench/measure"
)

// startEvents is the small backlog of startCase.
const startEvents = 1000

// startCase measures how long a relay takes from the start of its process to its first event, where one has run before.
func (r *rig) startCase(ctx context.Context) error {
	if err := r.warmUp(ctx); err != nil {
		return err
	}
	s, err := r.newSite(ctx, "start")
	if err != nil {
		return err
	}
	defer s.close(ctx)
	written := int64(0)
	for rep := range 1 + r.opts.Reps { // the first one makes topics and cursor
		if err := s.load(ctx, written, written+startEvents, loadPerTx); err != nil {
			return err
		}
		written += startEvents
		before, err := r.stable(ctx, s.topic)
		if err != nil {
			return err
		}
		relay, err := s.startRelay()
		if err != nil {
			return err
		}
		took, err := relay.firstEvent(ctx, sum(before))
		if err == nil {
			err = relay.caughtUp(ctx, written)
		}
		relay.stop()
		if err != nil {
			return err
		}
		if rep > 0 {
			r.report.in("start").row("process start to first event, cursor there", "s", took.Seconds(), atMost(1))
			r.say("start %d of %d: %.2f s to the first event", rep, r.opts.Reps, took.Seconds())
		}
	}
	c, err := s.count(ctx, written, nil)
	if err != nil {
		return err
	}
	return c.err()
}

// firstEvent waits until the topic is further than it was, and returns the time since the start of the process.
func (r *relay) firstEvent(ctx context.Context, before int64) (time.Duration, error) {
	for deadline := time.Now().Add(startPatience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		offsets, err := r.site.rig.stable(ctx, r.site.topic)
		if err != nil {
			return 0, err
		}
		if sum(offsets) > before {
			return time.Since(r.started), nil
		}
		if err := r.alive(); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("no event %v after the start of the relay; its last output:\n%s", startPatience, last(r.process.Output(), 20))
}

// idleSettle is how long a relay has had nothing to do before it counts as idle.
const idleSettle = 3 * time.Second

// idleCase looks at a relay that has nothing to do.
func (r *rig) idleCase(ctx context.Context) error {
	s, err := r.newSite(ctx, "idle")
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if err := s.load(ctx, 0, startEvents, loadPerTx); err != nil {
		return err
	}
	relay, err := s.startRelay()
	if err != nil {
		return err
	}
	defer relay.stop()
	if err := relay.caughtUp(ctx, startEvents); err != nil {
		return err
	}
	if err := pause(ctx, idleSettle); err != nil {
		return err
	}
	for range r.opts.Reps {
		if err := r.idleOnce(ctx, s, relay); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) idleOnce(ctx context.Context, s *site, relay *relay) error {
	r.say("idle for %v", r.opts.IdleFor)
	before, err := s.backends(ctx)
	if err != nil {
		return err
	}
	used, broker, began := relay.cpu(), measure.CPU(r.kafka.PID()), time.Now()
	if err := pause(ctx, r.opts.IdleFor); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	relayCPU, brokerCPU := relay.cpu()-used, measure.CPU(r.kafka.PID())-broker
	after, err := s.backends(ctx)
	if err != nil {
		return err
	}
	c := r.report.in("idle")
	c.row("relay CPU, percent of a core", "%", 100*relayCPU/took, atMost(1))
	c.row("its Postgres sessions' CPU, percent of a core", "%", 100*(after.cpu-before.cpu)/took, atMost(1))
	c.row("transactions on Postgres a second", "1/s", float64(after.transactions-before.transactions)/took)
	c.row("broker CPU, percent of a core", "%", 100*brokerCPU/took)
	return relay.alive()
}

// load on a site's database.
type databaseLoad struct {
	cpu          float64 // of all sessions but ours
	transactions int64
}

// backends looks at the sessions of the relay. It does so from another database, so as not to be counted itself.
func (s *site) backends(ctx context.Context) (l databaseLoad, err error) {
	conn, err := pgx.Connect(ctx, s.rig.postgres.DSN)
	if err != nil {
		return l, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var pids []int32
	err = conn.QueryRow(ctx, `SELECT (SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE datname = $1 AND application_name <> 'bench'),
		(SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1)`, s.name).Scan(&pids, &l.transactions)
	if err != nil {
		return l, fmt.Errorf("look at the relay's sessions: %w", err)
	}
	if len(pids) == 0 {
		return l, fmt.Errorf("the relay has no session in database %s", s.name)
	}
	for _, pid := range pids {
		l.cpu += measure.CPU(int(pid))
	}
	return l, nil
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
