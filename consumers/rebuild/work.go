package rebuild

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/internal/crashpoint"
)

// work is a generation that is fed beside the one that serves.
type work struct {
	n       int
	store   Store
	feed    *Feed
	decided *decisions
	head    *task // bronze, before the feed may begin; nil without
	settles *task // what was decided since about what it has put aside, before the feed may begin; nil until then
	running bool
}

func (w *work) over() <-chan struct{} {
	if w == nil || !w.running {
		return nil
	}
	return w.feed.done
}

// task is something that goes on beside the ticks.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // when done
}

func begin(ctx context.Context, f func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(ctx)
	t := &task{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = f(ctx)
	}()
	return t
}

func (t *task) over() <-chan struct{} {
	if t == nil {
		return nil
	}
	return t.done
}

// ended says whether the task is over.
func (t *task) ended() bool {
	select {
	case <-t.over():
		return true
	default:
		return false
	}
}

// stop ends the task and waits for it.
func (t *task) stop() {
	if t != nil {
		t.cancel()
		<-t.done
	}
}

// ensure has a generation fed beside the one that serves, and no other.
func (j *Job) ensure(ctx context.Context, n int) (*work, error) {
	if j.work != nil && j.work.n != n {
		j.drop()
	}
	if j.work == nil {
		j.whole = average{}
		w, err := j.begin(ctx, n)
		if err != nil {
			return nil, err
		}
		j.work = w
	}
	return j.work, j.carryOn(ctx)
}

// carryOn starts the feed when what comes before it is done, and says what has ended it.
func (j *Job) carryOn(ctx context.Context) error {
	w := j.work
	if w.head != nil {
		if !w.head.ended() {
			return nil
		}
		if w.head.err != nil {
			err := w.head.err
			j.drop()
			return err
		}
		w.head = nil
	}
	if w.settles == nil && !w.running && w.decided.settled() {
		rec := j.rec
		w.settles = begin(ctx, func(ctx context.Context) error { return j.settle(ctx, w, rec) })
	}
	if w.settles != nil && !w.running {
		if !w.settles.ended() {
			return nil
		}
		if err := w.settles.err; err != nil {
			j.drop()
			return fmt.Errorf("follow what was decided about dead letters: %w", err)
		}
	}
	if !w.running {
		w.feed.run(j.cfg.Host.Feeding())
		w.running = true
		crashpoint.Reach(pointStarted)
	}
	select {
	case <-w.feed.done:
		err := w.feed.Err()
		if err == nil && ctx.Err() == nil {
			err = errors.New("its consumer has ended")
		}
		j.drop()
		return fmt.Errorf("generation %d is not fed any more: %w", w.n, err)
	default:
		return nil
	}
}

// begin opens a generation and makes its feed.
func (j *Job) begin(ctx context.Context, n int) (*work, error) {
	b := j.rec.Rebuild
	s, err := j.open(ctx, n, n == b.New && b.SwappedAt.IsZero() && b.State != CuttingOver)
	if err != nil {
		return nil, err
	}
	w := &work{n: n, store: s, decided: &decisions{sink: j.cfg.Sink, kafka: j.cfg.Kafka, passed: j.passed}}
	if err := w.decided.read(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	cfg := s.Feed()
	cfg.Allowed = j.allowed(ctx, n)
	if r := b.Options.Rate; r > 0 && cfg.Consumer.WithDefaults().BatchEvents > r {
		cfg.Consumer.BatchEvents = max(r, 1) // so that a batch does not wait for long
	}
	if w.feed, err = newFeed(cfg, w.decided, heldPace()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := j.head(ctx, w); err != nil {
		return nil, errors.Join(err, w.feed.letters.Close(), s.Close())
	}
	return w, nil
}

// allowed is a feed's question whether it may go on: as long as this process leads, or since every process feeds the generation.
func (j *Job) allowed(leading context.Context, n int) func(context.Context) error {
	log := j.term.log
	return func(ctx context.Context) error {
		rec, err := log.Sync(ctx)
		switch {
		case err != nil:
			return err
		case rec.live(n):
			return nil
		case leading.Err() != nil:
			return ErrDeposed
		case rec.beside() != n:
			return errNotFed
		}
		return nil
	}
}

// errNotFed says that a generation is not to be fed by this process now.
var errNotFed = errors.New("it is not to be fed now: the record of generations says so")

// Allow is FeedConfig.Allowed for the generation that serves.
func (l *Log) Allow(n int) func(context.Context) error {
	return func(ctx context.Context) error {
		rec, err := l.Sync(ctx)
		if err == nil && !rec.live(n) {
			err = errNotFed
		}
		return err
	}
}

// drop ends the work, if there is any, and lets go of its store.
func (j *Job) drop() {
	j.task.stop()
	j.task = nil
	w := j.work
	if w == nil {
		return
	}
	j.work = nil
	w.head.stop()
	w.settles.stop()
	if w.running {
		w.feed.Stop()
	} else if err := w.feed.letters.Close(); err != nil {
		j.log.Warn("the dead letters of a generation are not closed", "generation", w.n, "err", err)
	}
	if err := w.store.Close(); err != nil {
		j.log.Warn("a generation is not closed", "generation", w.n, "err", err)
	}
}

// passed says whether the generation that serves has passed an offset.
func (j *Job) passed(ctx context.Context, tp consumers.TopicPartition, offset int64) (bool, error) {
	rec, err := j.term.Record()
	if err != nil {
		return false, err
	}
	s, err := j.cfg.Host.Open(ctx, rec.Serving, rec.Generations[rec.Serving], false)
	if err != nil {
		return false, err
	}
	at, err := s.Sink().Positions(ctx)
	return at[tp] > offset, errors.Join(err, s.Close())
}
