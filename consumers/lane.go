package consumers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// lane works off one partition, in order.
//
// Promise 2: one goroutine takes the batches in the order of their offsets, and does not take the next before the last one is
// durable. Another decodes one batch ahead, in the order in which the records came.
type lane struct {
	c  *Consumer
	tp TopicPartition

	ctx     context.Context // ends when the partition is no longer ours
	cancel  context.CancelFunc
	calm    context.Context // ends with ctx, or when the lane is drained: for what the next owner can go on with
	leave   context.CancelFunc
	drained chan struct{} // closed when no further batch is to be begun
	once    sync.Once     // closes drained
	done    chan struct{} // closed when run has returned
	signal  chan struct{} // events are decoded, or cannot be
	arrived chan struct{} // records have come, or there is room for their events

	mu         sync.Mutex // guards the following
	buf        []*kgo.Record
	ahead      ahead
	count      int       // records held: those of buf, and those decoded or being decoded
	bytes      int       // of those
	maxBytes   int       // the lane's share
	since      time.Time // when the first of those came
	paused     bool
	closed     bool // records that come are dropped: the lane claims anew or is over
	next       int64
	inGroup    int64 // committed to the group
	reclaims   int   // in a row, without a batch applied
	state      State
	stands     *hold     // that the lane has obeyed
	last       time.Time // of the youngest event applied
	caughtUp   time.Time // when the position was last seen at the end
	start, end int64     // of the partition; end is -1 if unknown
}

// State says what a lane is doing.
type State string

// The states of a lane.
const (
	Idle     State = "idle"     // nothing to do
	Working  State = "working"  // a batch is in hand
	Waiting  State = "waiting"  // a transient error is waited out
	Claiming State = "claiming" // the partition is being claimed anew
	// Redriving means that dead letters are applied or discarded, as somebody asked.
	Redriving State = "redriving"
)

func newLane(c *Consumer, tp TopicPartition, next int64) *lane {
	ctx, cancel := context.WithCancel(c.working)
	calm, leave := context.WithCancel(ctx)
	return &lane{
		c: c, tp: tp, ctx: ctx, cancel: cancel, calm: calm, leave: leave, drained: make(chan struct{}), done: make(chan struct{}), signal: make(chan struct{}, 1),
		arrived: make(chan struct{}, 1), next: next, inGroup: -1, end: -1, state: Idle,
	}
}

// run works until the lane is drained or cancelled.
func (l *lane) run() {
	defer close(l.done)
	decoded := make(chan struct{})
	go func() { defer close(decoded); l.decodeAhead() }()
	defer func() { <-decoded }()
	defer l.close()
	for {
		err := l.attend()
		if err == nil {
			var b *Batch
			if b, err = l.take(); b == nil && err == nil {
				return
			}
			if errors.Is(err, errCalled) {
				continue
			}
			if err == nil {
				err = l.work(*b)
			}
		}
		if err == nil {
			continue
		}
		if l.over() == nil {
			l.c.fail(fmt.Errorf("%s/%d: %w", l.tp.Topic, l.tp.Partition, err))
		}
		return
	}
}

// over returns why the lane should do nothing more; nil if it should go on.
func (l *lane) over() error {
	select {
	case <-l.ctx.Done():
		return l.ctx.Err()
	case <-l.drained:
		return errStopped
	case <-l.c.fetching.Done():
		return errStopped
	default:
		return nil
	}
}

// errCalled says that a request has come.
var errCalled = errors.New("a request has come")

// take waits for the next batch; nil when there will be none. An error says why the record behind the last batch cannot be decoded, or is
// errCalled.
func (l *lane) take() (*Batch, error) {
	for {
		if l.over() != nil {
			return nil, nil
		}
		b, wait, err := l.cut()
		if b != nil || err != nil {
			return b, err
		}
		if l.c.control.called(l.tp) {
			return nil, errCalled
		}
		if !l.sleep(wait) {
			return nil, nil
		}
	}
}

// sleep waits for events, or at most so long if wait is not 0. It returns false when the lane is over.
func (l *lane) sleep(wait time.Duration) bool {
	var expired <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-l.signal:
	case <-expired:
	case <-l.drained:
		return false
	case <-l.ctx.Done():
		return false
	}
	return true
}

// work brings a batch into the sink. A nil error means that it is there, or that the partition was claimed anew and goes on
// from where the sink is.
func (l *lane) work(b Batch) error {
	began, end := time.Now(), l.c.trace(&b)
	err := l.retry(outageProcess, func(ctx context.Context) error { return l.c.proc.Process(ctx, b) })
	end(err)
	switch {
	case err == nil:
		l.applied(b, time.Since(began))
		return nil
	case errors.Is(err, ErrFenced), errors.Is(err, ErrPosition):
		return l.reclaim(err)
	}
	return err
}

// applied notes what the sink has.
func (l *lane) applied(b Batch, took time.Duration) {
	l.mu.Lock()
	l.next, l.reclaims = b.Next, 0
	for i := range b.Events {
		if b.Events[i].Time.After(l.last) {
			l.last = b.Events[i].Time
		}
	}
	l.state = Idle
	l.mu.Unlock()
	l.c.metrics.applied(b, took)
}

// drain lets the lane finish the batch in hand and begin no other.
func (l *lane) drain() {
	l.once.Do(func() { close(l.drained) })
	l.leave()
}

// redrove notes that the sink has taken what was redriven.
func (l *lane) redrove() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reclaims = 0
}

// stop drains the lane, cancels it when the patience is over, and returns when it is done.
func (l *lane) stop(patience time.Duration) {
	l.drain()
	if patience > 0 {
		t := time.NewTimer(patience)
		defer t.Stop()
		select {
		case <-l.done:
		case <-t.C:
			l.c.log.Warn("the batch in hand did not finish in time", "topic", l.tp.Topic, "partition", l.tp.Partition)
		}
	}
	l.cancel()
	<-l.done
}

// uncommitted returns the position if the group does not have it.
func (l *lane) uncommitted() (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next, l.next >= 0 && l.next != l.inGroup
}

func (l *lane) committed(at int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inGroup = at
}
