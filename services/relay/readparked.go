package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ListParked returns the events that the relay of an outbox holds, in the order in which they were parked. kafka are the
// options that reach the brokers. It needs no relay to run, and returns none where the outbox never parked anything. It holds all
// of them, with what they say: OpenParked does not.
func ListParked(ctx context.Context, kafka []kgo.Opt, outbox string) ([]*Parked, error) {
	x, err := OpenParked(ctx, kafka, outbox, Selection{All: true}, nil)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	list := make([]*Parked, 0, x.Len())
	err = x.Each(ctx, 0, func(p *Parked) error {
		list = append(list, p)
		return nil
	})
	return list, err
}

// parkedLogs opens the parked topic; none if it does not exist.
func parkedLogs(ctx context.Context, client *kgo.Client, outbox string) ([]*partitionLog, error) {
	name := parkedTopic(outbox)
	meta, err := kadm.NewClient(client).Metadata(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("ask Kafka about %s: %w", name, err)
	}
	if errors.Is(meta.Topics[name].Err, kerr.UnknownTopicOrPartition) {
		return nil, nil
	}
	logs, err := openLogs(ctx, client, committedEnds, name)
	if err != nil {
		return nil, err
	}
	return logs[name], nil
}

// scanParked calls fn for the records of the parked topic, in order; p is nil for one that takes its event away.
func scanParked(ctx context.Context, logs []*partitionLog, fn func(r *kgo.Record, p *Parked)) error {
	for _, l := range logs {
		var bad error
		err := l.scan(ctx, l.start, func(r *kgo.Record) bool {
			if len(r.Value) == 0 {
				fn(r, nil)
				return true
			}
			p, err := decodeParked(r.Value)
			if err != nil {
				bad = stopf("remove the record: the relay cannot tell which key it holds up", "%w: topic %s, offset %d: %w",
					ErrParkedUnreadable, r.Topic, r.Offset, err)
				return false
			}
			fn(r, p) // nil: it was discarded
			return true
		})
		if err := errors.Join(err, bad); err != nil {
			return err
		}
	}
	return nil
}
