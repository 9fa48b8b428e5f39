package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// readCommitted is the isolation level at which a broker answers with the last stable offset.
const readCommitted = 1

// stable returns the last stable offset of each partition of a topic: what a read_committed consumer can have read so far.
// Markers of transactions count in it, one a transaction and partition. It is nil while there is no topic.
func (r *rig) stable(ctx context.Context, topic string) ([]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, readCommitted
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for p := range r.opts.Partitions {
		one := kmsg.NewListOffsetsRequestTopicPartition()
		one.Partition, one.Timestamp = int32(p), -1
		t.Partitions = append(t.Partitions, one)
	}
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, r.client)
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("ask for the offsets of %s: %w", topic, err)
	}
	out := make([]int64, r.opts.Partitions)
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			err := kerr.ErrorForCode(p.ErrorCode)
			if errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.LeaderNotAvailable) {
				return nil, nil
			}
			if err != nil {
				return nil, fmt.Errorf("ask for the offsets of %s: %w", topic, err)
			}
			out[p.Partition] = p.Offset
		}
	}
	return out, nil
}

func sum(offsets []int64) (total int64) {
	for _, o := range offsets {
		total += o
	}
	return total
}

// instant is how far a topic was at one time, and what the relay had used by then.
type instant struct {
	at    time.Time
	total int64 // sum of the last stable offsets
	cpu   float64
}

// How a topic is watched.
const (
	sampleEvery = 25 * time.Millisecond
	// quiet is how long a topic that has all events must stay as it is to be taken for finished: markers count in the
	// offsets, so that the last events are still to come when the offsets say n.
	quiet = 500 * time.Millisecond
	// stuck is how long a topic may stay as it is before it has all events.
	stuck = 60 * time.Second
)

// watch follows a topic until n events have become visible, and returns the first instant at which there were any and the
// last at which something changed. each, if not nil, is called at each change; an error of it ends the watch.
func (s *site) watch(ctx context.Context, relay *relay, n int64, each func(instant) error) (first, end instant, err error) {
	var seen atomic.Int64
	tell := s.rig.progress(func() string { return fmt.Sprintf("%s: %s of %s events", s.name, thousands(seen.Load()), thousands(n)) })
	defer tell()
	every := time.NewTicker(sampleEvery)
	defer every.Stop()
	end.at = time.Now()
	for {
		offsets, err := s.rig.stable(ctx, s.topic)
		if err != nil {
			return first, end, err
		}
		now := instant{at: time.Now(), total: sum(offsets)}
		switch {
		case now.total > end.total:
			now.cpu = relay.cpu()
			if first.total == 0 {
				first = now
			}
			end = now
			seen.Store(now.total)
			if each != nil {
				if err := each(now); err != nil {
					return first, end, err
				}
			}
		case end.total >= n && now.at.Sub(end.at) > quiet:
			return first, end, nil
		case now.at.Sub(end.at) > stuck:
			return first, end, fmt.Errorf("%s stays at %d of %d events; the relay's last output:\n%s", s.topic, end.total, n, last(relay.process.Output(), 20))
		}
		if err := relay.alive(); err != nil {
			return first, end, err
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return first, end, context.Cause(ctx)
		}
	}
}
