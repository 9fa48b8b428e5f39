package consumers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// adopt is called by the client for partitions that the group has newly given to this member. It claims each one and answers with
// the sink's positions in place of the group's. ctx ends when the group rebalances again.
func (c *Consumer) adopt(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.fetching, cancel)()
	next := map[TopicPartition]int64{}
	for topic, partitions := range offsets {
		for partition := range partitions {
			tp := TopicPartition{Topic: topic, Partition: partition}
			c.dropLane(tp)
			at, err := c.claim(ctx, tp)
			if err != nil {
				return nil, err
			}
			next[tp] = at
			partitions[partition] = start(at)
		}
	}
	for tp, at := range next {
		c.addLane(tp, at)
	}
	return offsets, nil
}

// start is the offset to fetch from. No leader epoch is given: the position is the sink's, and what it was read under is not known.
func start(next int64) kgo.Offset {
	if next < 0 {
		return kgo.NoResetOffset().AtStart()
	}
	return kgo.NoResetOffset().At(next)
}

// claim claims a partition, trying until it succeeds or ctx ends. A systemic error stops the consumer.
func (c *Consumer) claim(ctx context.Context, tp TopicPartition) (int64, error) {
	c.mu.Lock()
	c.claimed[tp] = true
	c.mu.Unlock()
	var next int64
	err := c.retry(ctx, outageKafka, tp, func(ctx context.Context) error { return c.follow(ctx, tp.Topic) })
	if err == nil {
		err = c.retry(ctx, outageClaim, tp, func(ctx context.Context) (err error) {
			next, err = c.proc.Claim(ctx, tp)
			return err
		})
	}
	if err != nil {
		err = fmt.Errorf("claim %s/%d: %w", tp.Topic, tp.Partition, err)
		if ctx.Err() == nil {
			c.fail(err)
		}
		return 0, err
	}
	c.log.Info("partition claimed", "topic", tp.Topic, "partition", tp.Partition, "offset", next)
	return next, nil
}

// dropLane stops the lane of a partition that is assigned once more without having been taken away: a session of the group that
// ended before it began.
func (c *Consumer) dropLane(tp TopicPartition) {
	c.mu.Lock()
	old := c.lanes[tp]
	delete(c.lanes, tp)
	c.mu.Unlock()
	if old != nil {
		old.stop(0)
		c.metrics.unassigned(tp)
	}
}

// addLane starts the lane of a partition.
func (c *Consumer) addLane(tp TopicPartition, next int64) {
	l := newLane(c, tp, next)
	c.mu.Lock()
	c.lanes[tp] = l
	c.mu.Unlock()
	c.metrics.assigned(tp, next)
	go l.run()
}

// revoked is called before partitions are given to another member: what is in hand is finished.
func (c *Consumer) revoked(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	c.release(list(partitions), c.cfg.RevokeTimeout)
}

// lost is called when the group has gone on without this member: another owner may be at work.
func (c *Consumer) lost(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	if tps := list(partitions); len(tps) > 0 {
		c.log.Warn("partitions lost: the group went on without this member", "partitions", len(tps))
		c.release(tps, 0)
	}
}

func list(partitions map[string][]int32) []TopicPartition {
	var tps []TopicPartition
	for topic, numbers := range partitions {
		for _, n := range numbers {
			tps = append(tps, TopicPartition{Topic: topic, Partition: n})
		}
	}
	return tps
}

// release stops lanes, which have so long to finish the batch in hand, and lets the Processor know.
func (c *Consumer) release(tps []TopicPartition, patience time.Duration) {
	stopped := map[TopicPartition]*lane{}
	var claimed []TopicPartition
	c.mu.Lock()
	for _, tp := range tps {
		if l := c.lanes[tp]; l != nil {
			stopped[tp] = l
			delete(c.lanes, tp)
		}
		if c.claimed[tp] {
			claimed = append(claimed, tp)
			delete(c.claimed, tp)
		}
	}
	c.mu.Unlock()
	stopLanes(stopped, patience)
	if patience > 0 {
		c.commit(stopped)
	}
	for _, tp := range claimed {
		c.outages.forget(tp)
		if stopped[tp] != nil {
			c.metrics.unassigned(tp)
		}
		ctx, cancel := context.WithTimeout(c.working, leaveTimeout)
		c.proc.Release(ctx, tp)
		cancel()
		c.log.Info("partition released", "topic", tp.Topic, "partition", tp.Partition)
	}
}

// stopLanes stops lanes together, so that the patience is for all.
func stopLanes(lanes map[TopicPartition]*lane, patience time.Duration) {
	for _, l := range lanes {
		l.drain()
	}
	deadline := time.Now().Add(patience)
	for _, l := range lanes {
		l.stop(time.Until(deadline))
	}
}

// commit writes positions to the group. They are for monitoring, so a failure changes nothing.
func (c *Consumer) commit(lanes map[TopicPartition]*lane) {
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for tp, l := range lanes {
		if at, ok := l.uncommitted(); ok {
			if offsets[tp.Topic] == nil {
				offsets[tp.Topic] = map[int32]kgo.EpochOffset{}
			}
			offsets[tp.Topic][tp.Partition] = kgo.EpochOffset{Epoch: -1, Offset: at}
		}
	}
	if len(offsets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.fetching), leaveTimeout)
	defer cancel()
	c.offsets.Lock()
	defer c.offsets.Unlock()
	c.cl.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			c.log.Debug("positions not committed to the group", "err", err)
			return
		}
		for tp, l := range lanes {
			if at, ok := offsets[tp.Topic][tp.Partition]; ok {
				l.committed(at.Offset)
			}
		}
	})
}

// member returns nil if the group still counts this process in. A process that was frozen asks before it claims a partition back:
// it may be another's by now.
func (c *Consumer) member(ctx context.Context) error {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group = c.cfg.Group
	req.MemberID, req.Generation = c.cl.GroupMetadata()
	resp, err := req.RequestWith(ctx, c.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if errors.Is(err, kerr.RebalanceInProgress) {
		return nil // What is to be given up is revoked first.
	}
	return err
}
