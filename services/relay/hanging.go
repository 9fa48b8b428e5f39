package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A broker that was killed between writing that a transaction is to be committed and telling its partitions so can come back
// and take it for complete without telling them (seen with Apache Kafka 4.3.1, one node, kill -9). The coordinator then knows
// of no open transaction, and the partitions wait for ever for the end of one: readers of committed records stand still, the
// relay among them. Kafka calls it a hanging transaction (KIP-664).
//
// Taking a transactional id returns after its transactions were ended everywhere. What a partition still has open of that
// producer afterwards hangs for certain.

// hangingTxn is a transaction of one of our producers that partitions hold open and no coordinator knows.
type hangingTxn struct {
	producer, epoch  int64
	coordinatorEpoch int32
	// starts are the offsets of its first records.
	starts map[string]map[int32]int64
}

// ErrHanging says that a transaction hangs and the brokers do not let the relay end it.
var ErrHanging = errors.New("a transaction of an earlier relay hangs")

// endHanging ends the hanging transactions of both producers, as they were decided.
func (s *session) endHanging(ctx context.Context) error {
	if len(s.epochs) == 0 {
		return nil
	}
	logs, err := openLogs(ctx, s.client, committedEnds, cursorTopic(s.cfg.Outbox))
	if err != nil {
		return err
	}
	c, err := newestCursor(ctx, logs[cursorTopic(s.cfg.Outbox)][cursorPartition])
	if err != nil {
		return err
	}
	topics, err := s.existing(ctx)
	if err != nil {
		return err
	}
	if c != nil {
		topics = slices.AppendSeq(topics, maps.Keys(c.Partitions))
	}
	topics = append(topics, cursorTopic(s.cfg.Outbox), parkedTopic(s.cfg.Outbox))
	found, err := s.findHanging(ctx, topics)
	if err != nil {
		return err
	}
	for _, h := range found {
		if err := s.end(ctx, h, c); err != nil {
			return err
		}
	}
	return nil
}

// newestCursor returns the cursor in a log; nil if it holds none.
func newestCursor(ctx context.Context, log *partitionLog) (*cursor, error) {
	value, err := log.newestCursor(ctx)
	if err != nil || value == nil {
		return nil, err
	}
	return decodeCursor(value)
}

// findHanging asks the leaders of the topics' partitions what our producers have open there.
func (s *session) findHanging(ctx context.Context, topics []string) ([]*hangingTxn, error) {
	meta, err := s.topics.admin.Metadata(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("ask Kafka about the topics published to: %w", err)
	}
	described, err := s.topics.admin.DescribeProducers(ctx, meta.Topics.TopicsSet())
	if err != nil && len(described) == 0 {
		// Brokers before 3.0 cannot tell, and the right to read may be missing.
		s.cfg.Logger.Debug("open transactions not looked for", "err", err)
		return nil, nil
	}
	open := map[int64]*hangingTxn{}
	described.EachProducer(func(p kadm.DescribedProducer) {
		epoch, ours := s.epochs[p.ProducerID]
		if !ours || p.ProducerEpoch >= epoch || p.CurrentTxnStartOffset < 0 {
			return
		}
		h := open[p.ProducerID]
		if h == nil {
			h = &hangingTxn{producer: p.ProducerID, starts: map[string]map[int32]int64{}}
			open[p.ProducerID] = h
		}
		h.epoch = max(h.epoch, int64(p.ProducerEpoch))
		h.coordinatorEpoch = max(h.coordinatorEpoch, p.CoordinatorEpoch)
		if h.starts[p.Topic] == nil {
			h.starts[p.Topic] = map[int32]int64{}
		}
		h.starts[p.Topic][p.Partition] = p.CurrentTxnStartOffset
	})
	return slices.Collect(maps.Values(open)), nil
}

// end writes the markers that are missing.
func (s *session) end(ctx context.Context, h *hangingTxn, c *cursor) error {
	committed, err := s.wasCommitted(ctx, h, c)
	if err != nil {
		return err
	}
	set := kadm.TopicsSet{}
	for topic, partitions := range h.starts {
		for p := range partitions {
			set.Add(topic, p)
		}
	}
	s.cfg.Logger.Warn("a transaction of an earlier relay hangs, the broker has forgotten it: ending it",
		"topics", len(h.starts), "commit", committed, "producer_id", h.producer, "producer_epoch", h.epoch)
	answers, err := s.topics.admin.WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: h.producer, ProducerEpoch: int16(h.epoch), Commit: committed, CoordinatorEpoch: h.coordinatorEpoch, Topics: set,
	})
	for _, a := range answers.SortedPartitions() {
		if err == nil && a.Err != nil {
			err = fmt.Errorf("%s, partition %d: %w", a.Topic, a.Partition, a.Err)
		}
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: the broker was killed while it ended it: end it: %w", ErrHanging, err)
	if errors.Is(err, kerr.ClusterAuthorizationFailed) {
		err = fmt.Errorf("%w: grant this relay's user ClusterAction on the cluster until it has started", err)
	}
	return err
}

// wasCommitted finds out how a hanging transaction was decided. Its markers may have reached some partitions and not others:
// whoever has one is proof for all. Where none has, nobody has seen anything of it, and it may be aborted and published again.
func (s *session) wasCommitted(ctx context.Context, h *hangingTxn, c *cursor) (bool, error) {
	if c == nil {
		return s.anythingOut(ctx) // it is the first one
	}
	_, cursorOpen := h.starts[cursorTopic(s.cfg.Outbox)][cursorPartition]
	if !cursorOpen {
		// Its cursor has got a marker, unless it was never sent. If that was a commit, the newest cursor counts its events.
		return s.counted(ctx, h, c)
	}
	for topic := range c.Partitions {
		seq, err := s.topics.highestSeq(ctx, topic)
		if err != nil || seq > c.Seq {
			return err == nil, err // visible, and no committed cursor counts it: it is of this transaction
		}
	}
	return false, nil
}

// anythingOut says whether a record of this outbox is visible in the configured topics.
func (s *session) anythingOut(ctx context.Context) (bool, error) {
	logs, err := s.eventLogs(ctx)
	out := false
	for _, l := range logs {
		if err == nil && !out {
			err = l.scan(ctx, l.start, func(r *kgo.Record) bool { out = s.published(r); return !out })
		}
	}
	return out, err
}

// counted says whether the cursor counts the first event of a hanging transaction.
func (s *session) counted(ctx context.Context, h *hangingTxn, c *cursor) (bool, error) {
	for topic, partitions := range h.starts {
		if _, events := c.Partitions[topic]; !events {
			continue
		}
		for p, start := range partitions {
			seq, err := s.seqAt(ctx, topic, p, start)
			if err != nil {
				return false, err
			}
			return seq <= c.Seq, nil
		}
	}
	return true, nil // only parked events or schema ids: those are safe to have, and lost if they were aborted
}

// seqAt returns the millrace-seq of the record at an offset, committed or not.
func (s *session) seqAt(ctx context.Context, topic string, partition int32, offset int64) (int64, error) {
	logs, err := openLogs(ctx, s.client, lastEnds, topic)
	if err != nil {
		return 0, err
	}
	log := *logs[topic][partition]
	log.dirty, log.end = true, offset+1
	seq := int64(0)
	err = log.scan(ctx, offset, func(r *kgo.Record) bool { seq = seqOf(r); return false })
	return seq, err
}
