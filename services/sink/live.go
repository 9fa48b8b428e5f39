package sink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/rebuild"
)

// live is the generation that serves, in this process.
type live struct {
	*store
	feed    *rebuild.Feed         // nil while it is not to be fed
	stopped error                 // why it cannot be fed any more: only a rebuild helps
	stops   []func()              // end what goes on beside the feed
	exposed prometheus.Registerer // what shows the backend's metrics; nil if none are kept
}

// supervisor runs the generation that the record says, and stands for leader of the sink's rebuilds. Its methods belong to one goroutine, but for those of a Host.
type supervisor struct {
	s   *Sink
	log *rebuild.Log // nil for a sink without generations
	ctx context.Context

	now     *live
	metrics *rebuild.Metrics
}

// supervise runs the sink until ctx ends.
func (s *Sink) supervise(ctx context.Context) error {
	v := &supervisor{s: s, ctx: ctx}
	ctx, cancel := context.WithCancel(ctx)
	v.ctx = ctx
	var running []chan struct{}
	beside := func(f func()) {
		done := make(chan struct{})
		running = append(running, done)
		go func() { defer close(done); f() }()
	}
	if len(s.parts.Kafka) > 0 && s.cfg.Rebuildable() == nil {
		name, _ := os.Hostname()
		v.log = rebuild.NewLog(rebuild.LogConfig{Sink: s.cfg.Name, Kafka: s.parts.Kafka, Lost: s.lost, Process: fmt.Sprintf("%s/%d", name, os.Getpid()), Logger: s.logger})
		v.metrics = rebuild.NewMetrics(s.parts.Metrics, s.cfg.Name)
		beside(func() { v.log.Run(ctx) })
		beside(func() { v.campaign(ctx) })
	}
	err := v.run(ctx)
	cancel()
	for _, done := range running {
		<-done
	}
	s.takeOffer()
	err = errors.Join(err, v.leave())
	s.show(nil, err)
	return err
}

// hopeless says that no waiting lets the record be read. Credentials that are refused may be let in again, as the consumer finds who waits for that too.
func hopeless(err error) bool {
	if errors.Is(err, kerr.SaslAuthenticationFailed) {
		return false
	}
	return errors.Is(err, rebuild.ErrUnreadable) || consumers.Classify(err) == consumers.Systemic
}

// run keeps to the record until ctx ends.
func (v *supervisor) run(ctx context.Context) error {
	for ctx.Err() == nil {
		changed, pause := v.changed(), time.Duration(0)
		rec, err := v.record()
		if err == nil {
			err = v.keepTo(ctx, rec)
			if err != nil && consumers.Classify(err) == consumers.Systemic {
				v.s.show(v.now, err)
				return err
			}
			if err != nil {
				pause = v.s.later(err)
			}
		} else if hopeless(err) {
			err = consumers.AsSystemic(fmt.Errorf("which generation serves is on topic %s, which the sink has to read and describe: %w", rebuild.Topic(v.s.cfg.Name), err))
			v.s.show(v.now, err)
			return err
		} else {
			err = fmt.Errorf("which generation serves is not known yet: it is on topic %s of Kafka, which is asked until it answers: see that kafka.brokers is reached, and nothing else need be done: %w",
				rebuild.Topic(v.s.cfg.Name), err)
		}
		if err != nil {
			v.s.show(v.now, err)
		}
		if err := v.wait(ctx, changed, pause); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until something has changed. The error is that of the feed, which has ended.
func (v *supervisor) wait(ctx context.Context, changed <-chan struct{}, pause time.Duration) error {
	var ended <-chan struct{}
	if v.now != nil && v.now.feed != nil {
		ended = v.now.feed.Done()
	}
	var again <-chan time.Time
	if pause > 0 {
		t := time.NewTimer(pause)
		defer t.Stop()
		again, changed = t.C, nil
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-again:
	case <-ended:
		return v.ended(ctx)
	}
	return nil
}

// ended says whether the end of the feed is the sink's end. A generation that is not to be fed any more may have been removed under it.
func (v *supervisor) ended(ctx context.Context) error {
	err := v.now.feed.Err()
	v.now.feed = nil
	if ctx.Err() != nil {
		return err
	}
	if v.log != nil {
		asking, cancel := context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
		if rec, failed := v.log.Sync(asking); failed == nil && !rec.Live(v.now.number) {
			return nil
		}
	}
	if v.log != nil && errors.Is(err, consumers.ErrTopicChanged) { // it waits to be rebuilt, which takes a process that leads
		v.now.stopped = err
		v.s.show(v.now, err)
		return nil
	}
	if err == nil {
		err = errors.New("the consumer has ended by itself")
	}
	return err
}

const leaveTimeout = 5 * time.Second

func (v *supervisor) changed() <-chan struct{} {
	if v.log == nil {
		return nil
	}
	return v.log.Changed()
}

func (v *supervisor) record() (rebuild.Record, error) {
	if v.log == nil {
		return rebuild.Record{Serving: 1}, nil
	}
	return v.log.Record()
}

// keepTo does what the record says: one generation serves in this process, and is fed unless it is about to be replaced.
func (v *supervisor) keepTo(ctx context.Context, rec rebuild.Record) error {
	if v.now == nil || v.now.number != rec.Serving {
		if err := v.change(ctx, rec); err != nil {
			return err
		}
	}
	switch fed := rec.Live(v.now.number); {
	case !fed && v.now.feed != nil:
		v.stopFeed()
	case fed && v.now.feed == nil && v.now.stopped == nil:
		if err := v.startFeed(ctx); err != nil {
			return err
		}
	}
	v.s.tell(rec)
	v.s.show(v.now, v.now.stopped)
	return nil
}

// change lets another generation serve.
//
// Promise 8: who asks the process finds the new generation from one request to the next, and requests under way end where they began.
func (v *supervisor) change(ctx context.Context, rec rebuild.Record) error {
	st, feed := v.s.taken(rec.Serving)
	if st == nil {
		var err error
		if st, err = v.open(rec); err != nil {
			return err
		}
	}
	before := v.now
	v.now = &live{store: st}
	v.s.show(v.now, nil)
	v.letGo(before)
	v.now.Effects(true)
	if v.s.parts.Metrics != nil {
		v.now.exposed = prometheus.WrapRegistererWith(prometheus.Labels{"sink": v.s.cfg.Name}, v.s.parts.Metrics)
		if err := v.now.exposed.Register(st.metrics); err != nil {
			return consumers.AsSystemic(fmt.Errorf("register the metrics of %s: %w", v.s.cfg.Kind, err))
		}
	}
	if feed != nil {
		v.now.feed = feed
		feed.Serve()
	}
	stopGold, err := v.s.startGold(ctx, st)
	if err != nil {
		return err
	}
	v.now.stops = []func(){stopGold, v.s.verifies(ctx, st.backend.sink, st.keep)}
	return nil
}

// open opens the generation that serves: by the declarations as they are configured, or, where the store was made by others, by those.
func (v *supervisor) open(rec rebuild.Record) (*store, error) {
	s, g := v.s, rec.Generations[rec.Serving]
	return s.shelf.get(rec.Serving, func() (*store, error) {
		st, err := s.make(rec.Serving, false, s.declared)
		if err == nil || consumers.Classify(err) != consumers.Systemic || g == nil || len(changed(*g, s.declared.generation)) == 0 {
			return st, err
		}
		was, other := s.recorded(g)
		if other != nil {
			return nil, errors.Join(err, other)
		}
		if st, other = s.make(rec.Serving, false, was); other != nil {
			return nil, errors.Join(err, other)
		}
		s.logger.Warn("the store goes on by the declarations that it was built by", "note", s.outdated(st), "err", err)
		return st, nil
	})
}

// outdated says that a store runs by other declarations than those that are configured; "" if it does not.
func (s *Sink) outdated(st *store) string {
	switch all := changed(st.declared, s.declared.generation); len(all) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("the declaration of %s has changed: millrace rebuild --plan %s", all[0], s.cfg.Name)
	default:
		return fmt.Sprintf("the declarations of %s have changed: millrace rebuild --plan %s", strings.Join(all, ", "), s.cfg.Name)
	}
}

func (v *supervisor) startFeed(context.Context) error {
	cfg := v.now.Feed()
	cfg.Allowed = func(context.Context) error { return nil }
	if v.log != nil {
		cfg.Allowed = v.log.Allow(v.now.number)
	}
	feed, err := rebuild.StartFeed(v.ctx, cfg)
	v.now.feed = feed
	return err
}

func (v *supervisor) stopFeed() {
	if v.now.feed != nil {
		v.now.feed.Stop()
		v.now.feed = nil
	}
}

// letGo ends what a generation did that serves no more.
func (v *supervisor) letGo(l *live) {
	if l == nil {
		return
	}
	l.stopBeside()
	if l.feed != nil {
		l.feed.Stop()
	}
	l.Effects(false)
	if l.exposed != nil {
		l.exposed.Unregister(l.metrics)
	}
	if err := l.Close(); err != nil {
		v.s.logger.Error("the store of a former generation is not closed", "generation", l.number, "err", err)
	}
}

func (l *live) stopBeside() {
	for _, stop := range l.stops {
		stop()
	}
	l.stops = nil
}

// leave stops what serves, and returns why it ended.
func (v *supervisor) leave() error {
	if v.now == nil {
		return nil
	}
	v.now.stopBeside()
	var err error
	if v.now.feed != nil {
		v.now.feed.Stop()
		err = v.now.feed.Err()
	}
	return errors.Join(err, v.now.Close())
}

// campaign stands for leader, once there is something to lead.
func (v *supervisor) campaign(ctx context.Context) {
	if !v.s.untilOpen(ctx) {
		return
	}
	for told := false; ; {
		asking, cancel := context.WithTimeout(ctx, leaveTimeout)
		err := v.log.Ensure(asking)
		cancel()
		if err == nil {
			break
		}
		if !told && ctx.Err() == nil {
			v.s.logger.Warn("the topic of generations cannot be made: the sink cannot be rebuilt until it can", "topic", rebuild.Topic(v.s.cfg.Name), "err", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(openRetryMax):
		}
	}
	err := v.log.Campaign(ctx, func(ctx context.Context, term *rebuild.Term) error {
		return rebuild.Lead(ctx, term, rebuild.JobConfig{
			Host: host{v}, Sink: v.s.cfg.Name, Kafka: v.s.parts.Kafka, Topics: v.s.topics, Metrics: v.metrics, Logger: v.s.logger,
		})
	})
	if err != nil {
		v.s.logger.Error("the sink's rebuilds have no leader", "err", err)
	}
}
