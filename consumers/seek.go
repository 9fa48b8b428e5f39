package consumers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// seek asks the polling goroutine to fetch a lane's partition from another offset: between two polls, so that no record fetched
// before it can come after it.
type seek struct {
	lane *lane
	from int64
	next int64
	done chan struct{}
}

// reclaim claims the lane's partition anew after the sink refused a batch, and goes on from the sink's position. Nothing of the
// batch was applied, or all of it was and the answer got lost; the position tells.
func (l *lane) reclaim(why error) error {
	l.mu.Lock()
	l.dropLocked()
	l.state = Claiming
	l.reclaims++
	attempt := l.reclaims
	l.mu.Unlock()
	l.c.log.Warn("partition is claimed anew", "topic", l.tp.Topic, "partition", l.tp.Partition, "err", why)
	if attempt > 1 && !l.pause(backoff(l.c.cfg.RetryMin, l.c.cfg.RetryMax, attempt-2)) {
		return errStopped
	}
	// Promise 4: a process that the group has given up takes nothing back from the new owner.
	if errors.Is(why, ErrFenced) {
		if err := l.retry(outageGroup, l.c.member); err != nil {
			return err
		}
	}
	next, from, err := l.claim()
	if err != nil {
		return err
	}
	return l.c.seek(l, from, next)
}

// pause waits, and returns false if the lane is over before that.
func (l *lane) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.drained:
	case <-l.ctx.Done():
	}
	return false
}

// claim returns the sink's position and the offset to fetch from.
func (l *lane) claim() (next, from int64, err error) {
	if err = l.retry(outageKafka, func(ctx context.Context) error { return l.c.follow(ctx, l.tp.Topic) }); err != nil {
		return 0, 0, err
	}
	err = l.retry(outageClaim, func(ctx context.Context) (err error) {
		next, err = l.c.proc.Claim(ctx, l.tp)
		return err
	})
	if err != nil || next >= 0 {
		return next, next, err
	}
	err = l.retry(outageKafka, func(ctx context.Context) error {
		from, err = startOffset(ctx, l.c.adm, l.tp)
		return err
	})
	return next, from, err
}

// startOffset is the first offset that a partition still has.
func startOffset(ctx context.Context, adm *kadm.Client, tp TopicPartition) (int64, error) {
	all, err := adm.ListStartOffsets(ctx, tp.Topic)
	if err != nil {
		return 0, fmt.Errorf("list the first offset of %s/%d: %w", tp.Topic, tp.Partition, err)
	}
	o, ok := all.Lookup(tp.Topic, tp.Partition)
	if !ok {
		return 0, fmt.Errorf("list the first offset of %s/%d: not in the answer", tp.Topic, tp.Partition)
	}
	if o.Err != nil {
		return 0, fmt.Errorf("list the first offset of %s/%d: %w", tp.Topic, tp.Partition, o.Err)
	}
	return o.Offset, nil
}

// seek returns when the partition is fetched from the offset and the lane takes records again.
func (c *Consumer) seek(l *lane, from, next int64) error {
	s := &seek{lane: l, from: from, next: next, done: make(chan struct{})}
	c.mu.Lock()
	c.seeks = append(c.seeks, s)
	if c.wakePoll != nil {
		c.wakePoll()
	}
	c.mu.Unlock()
	select {
	case <-s.done:
		return nil
	case <-l.drained:
	case <-l.ctx.Done():
	}
	return errStopped
}

// doSeeks carries out what lanes asked for. It runs between a poll and AllowRebalance: the group cannot take a partition away
// meanwhile.
func (c *Consumer) doSeeks() {
	c.mu.Lock()
	asked := c.seeks
	c.seeks = nil
	c.mu.Unlock()
	for _, s := range asked {
		if !c.current(s.lane) {
			continue
		}
		c.offsets.Lock()
		c.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{s.lane.tp.Topic: {s.lane.tp.Partition: {Epoch: -1, Offset: s.from}}})
		c.offsets.Unlock()
		s.lane.restart(s.next)
		close(s.done)
	}
}

func (c *Consumer) current(l *lane) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lanes[l.tp] == l
}

// restart lets the lane take records again.
func (l *lane) restart(next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed, l.next, l.inGroup, l.state = false, next, -1, Idle
}
