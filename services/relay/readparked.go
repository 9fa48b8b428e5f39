package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ListParked returns the events that the relay of an outbox holds, in the order in which they were parked. kafka are the
// options that reach the brokers. It needs no relay to run, and returns none where the outbox never parked anything.
func ListParked(ctx context.Context, kafka []kgo.Opt, outbox string) ([]*Parked, error) {
	client, err := newClient(kafka)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	logs, err := parkedLogs(ctx, client, outbox)
	if err != nil {
		return nil, err
	}
	return readParked(ctx, logs)
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

// readParked reads the parked topic to its end. A record without a value takes an event away again.
func readParked(ctx context.Context, logs []*partitionLog) ([]*Parked, error) {
	held := map[string]*Parked{}
	err := scanParked(ctx, logs, func(r *kgo.Record, p *Parked) {
		if p == nil {
			delete(held, string(r.Key))
			return
		}
		held[string(r.Key)] = p
	})
	if err != nil {
		return nil, err
	}
	all := make([]*Parked, 0, len(held))
	for _, p := range held {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Parked) int {
		return cmp.Or(a.ParkedAt.Compare(b.ParkedAt), cmp.Compare(a.Row, b.Row))
	})
	return all, nil
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
			fn(r, p)
			return true
		})
		if err := errors.Join(err, bad); err != nil {
			return err
		}
	}
	return nil
}
