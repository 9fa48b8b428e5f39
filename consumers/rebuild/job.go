package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/internal/crashpoint"
)

// JobConfig says whose rebuilds are led.
type JobConfig struct {
	// Host is the process. Required.
	Host Host
	// Sink is the sink's name, and Kafka says how Kafka is reached. Both are required.
	Sink  string
	Kafka []kgo.Opt
	// Topics are those that the sink follows.
	Topics []string
	// Every is how often it is looked how far a rebuild is. Default 1 s.
	Every time.Duration
	// Grace is how long a generation that has just stopped serving is let alone before it is removed: other processes may be about to leave it. Default 5 s.
	Grace time.Duration
	// Metrics are told how far a rebuild is; nil for none.
	Metrics *Metrics
	Logger  *slog.Logger
}

// Job leads the rebuilds of a sink for the length of a term: it carries out requests, and takes a rebuild from state to state. What it needs to know is in the record.
type Job struct {
	cfg      JobConfig
	log      *slog.Logger
	term     *Term
	adm      *kadm.Client
	rec      Record
	work     *work                  // the generation beside the one that serves; nil if there is none
	task     *task                  // what is going on beside the ticks; nil if nothing is
	compared *compare.Comparison    // by the task
	took     time.Duration          // that it took
	awaited  atomic.Pointer[string] // whom the task waits for; nil for nobody
	heed     heed                   // of the task
	// cutting says that both generations are brought to one cut, or have to go on while they are compared: nothing waits.
	cutting atomic.Bool
	lag     *lagging
	rate    rating
	whole   average // of what is built
	held    string  // why it waits since the last look; "" if it does not
	told    time.Time
	swaps   int       // that have failed
	tried   time.Time // when the last of them did
}

// Lead leads until ctx ends or this process is deposed.
func Lead(ctx context.Context, term *Term, cfg JobConfig) error {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Grace == 0 {
		cfg.Grace = 5 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cl, err := kgo.NewClient(cfg.Kafka...)
	if err != nil {
		return err
	}
	defer cl.Close()
	j := &Job{cfg: cfg, log: cfg.Logger, term: term, adm: kadm.NewClient(cl), lag: newLagging()}
	defer j.end()
	for {
		changed := term.log.Changed()
		if err := j.tick(ctx); err != nil {
			return err
		}
		t := time.NewTimer(cfg.Every)
		select {
		case <-changed:
		case <-j.task.over():
		case <-j.work.over():
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		t.Stop()
	}
}

// end lets go of everything that is not handed over. What its metrics tell is another process's from now on.
func (j *Job) end() {
	j.drop()
	j.cfg.Metrics.show(nil)
}

// tick does what is next. An error ends the term: what stands in the record is where the next one goes on.
func (j *Job) tick(ctx context.Context) (err error) {
	if j.rec, err = j.term.Record(); err != nil {
		return err
	}
	if err := j.recordRunning(ctx); err != nil {
		return err
	}
	for _, q := range j.term.log.open() {
		if err := j.answer(ctx, q); err != nil {
			return err
		}
	}
	if j.rec.Rebuild == nil {
		j.drop()
		j.cfg.Metrics.show(nil)
		return nil
	}
	if err := j.step(ctx); err != nil {
		if ctx.Err() != nil || errors.Is(err, ErrDeposed) || errors.Is(err, errUnsure) {
			return err
		}
		return j.trouble(ctx, err)
	}
	j.cfg.Metrics.show(j.rec.Rebuild)
	return nil
}

// step takes the rebuild on.
func (j *Job) step(ctx context.Context) error {
	switch j.rec.Rebuild.State {
	case Planned:
		return j.move(ctx, func(_ *Record, b *Rebuild) { b.State = Building })
	case Building, CatchingUp:
		return j.build(ctx)
	case Verifying:
		return j.verify(ctx)
	case Refused:
		return j.wait(ctx)
	case CuttingOver:
		return j.cutOver(ctx)
	case Soaking:
		return j.soak(ctx)
	case Retiring:
		return j.retire(ctx)
	}
	j.drop()
	return nil // failed: somebody has to say what is to be done
}

// move changes the record, and writes it.
func (j *Job) move(ctx context.Context, change func(*Record, *Rebuild), answers ...Answer) error {
	rec, err := j.rec.clone()
	if err != nil {
		return err
	}
	before := State("")
	if j.rec.Rebuild != nil {
		before = j.rec.Rebuild.State
	}
	change(&rec, rec.Rebuild)
	if err := j.term.Write(ctx, &rec, answers...); err != nil {
		return err
	}
	j.rec = rec
	if b := rec.Rebuild; b != nil && b.State != before {
		j.log.Info("rebuild", "state", b.State, "from", b.Old, "to", b.New, "reason", b.Reason)
		crashpoint.Reach(pointState + string(b.State))
	}
	return nil
}

// clone is a copy that shares nothing.
func (r Record) clone() (out Record, err error) {
	text, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if out.Generations == nil {
		out.Generations = map[int]*Generation{}
	}
	return out, err
}

// fail ends the attempt: nothing that serves is touched.
func (j *Job) fail(ctx context.Context, why error) error {
	j.drop()
	return j.move(ctx, func(_ *Record, b *Rebuild) {
		b.State, b.Reason, b.Paused = Failed, why.Error(), false
	})
}

// trouble says what is in the way. What no waiting helps against fails what is being built, and only that; the rest is tried again.
func (j *Job) trouble(ctx context.Context, why error) error {
	b := j.rec.Rebuild
	building := b.SwappedAt.IsZero() && b.State != CuttingOver && b.State != Retiring
	if building && (consumers.Classify(why) == consumers.Systemic || errors.Is(why, ErrPoison)) {
		j.log.Error("the rebuild has failed; what serves is not touched", "state", b.State, "err", why)
		return j.fail(ctx, why)
	}
	j.log.Warn("the rebuild waits", "state", b.State, "err", why)
	if text := cut(why.Error(), maxReason); b.Reason != text {
		return j.move(ctx, func(_ *Record, b *Rebuild) { b.Reason = text })
	}
	return nil
}

// recordRunning writes down the declarations that the serving generation runs by, for a configuration that changes later.
func (j *Job) recordRunning(ctx context.Context) error {
	running, ok := j.cfg.Host.Running(j.rec.Serving)
	if !ok || j.rec.Generations[j.rec.Serving] != nil && maps.Equal(j.rec.Generations[j.rec.Serving].Digests, running.Digests) {
		return nil
	}
	return j.move(ctx, func(rec *Record, _ *Rebuild) {
		if was := rec.Generations[rec.Serving]; was != nil {
			running.MadeAt, running.Rate, running.Compared = was.MadeAt, was.Rate, was.Compared
		} else {
			running.MadeAt = time.Now().UTC()
		}
		rec.Generations[rec.Serving] = &running
	})
}

// open opens a generation of the record.
func (j *Job) open(ctx context.Context, n int, building bool) (Store, error) {
	g := j.rec.Generations[n]
	if g == nil {
		return nil, consumers.AsSystemic(fmt.Errorf("generation %d is not in the record", n))
	}
	s, err := j.cfg.Host.Open(ctx, n, g, building)
	if err != nil {
		return nil, fmt.Errorf("open generation %d: %w", n, err)
	}
	return s, nil
}

// serving opens the generation that serves for the length of f.
func (j *Job) serving(ctx context.Context, f func(Store) error) error {
	s, err := j.open(ctx, j.rec.Serving, false)
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Close())
}
