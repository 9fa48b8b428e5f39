package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// parkedStates are what the parked topic says of events at one instant.
type parkedStates struct {
	parked    map[uuid.UUID]bool
	discarded map[uuid.UUID]*Discarded
	// released have been parked and were published then, as far as the topic still tells.
	released map[uuid.UUID]bool
	// moving have something on the topic behind its end as it was before.
	moving map[uuid.UUID]bool
}

// parkedEnd is where the parked topic ends; -1 where there is none.
func (v *verification) parkedEnd(ctx context.Context) (int64, error) {
	name := parkedTopic(v.cfg.Outbox)
	ends, err := kadm.NewClient(v.client).ListCommittedOffsets(ctx, name)
	if err != nil {
		return 0, wrap(err, "list the end of "+name)
	}
	o, ok := ends.Lookup(name, 0)
	switch {
	case !ok || errors.Is(o.Err, kerr.UnknownTopicOrPartition):
		return -1, nil
	case o.Err != nil:
		return 0, wrap(o.Err, "list the end of "+name)
	}
	return o.Offset, nil
}

// readHeld reads the parked topic to its end. What lies behind before is moving.
func (v *verification) readHeld(ctx context.Context, before int64) error {
	s := parkedStates{parked: map[uuid.UUID]bool{}, discarded: map[uuid.UUID]*Discarded{}, released: map[uuid.UUID]bool{}, moving: map[uuid.UUID]bool{}}
	v.held = s
	if before < 0 {
		return nil
	}
	logs, err := openLogs(ctx, v.client, settledSoon, parkedTopic(v.cfg.Outbox))
	if err != nil {
		return err
	}
	return scanParked(ctx, logs[parkedTopic(v.cfg.Outbox)], func(r *kgo.Record, p *Parked) {
		id, err := uuid.ParseBytes(r.Key)
		if err != nil {
			return
		}
		delete(s.parked, id)
		delete(s.discarded, id)
		delete(s.released, id)
		if p != nil {
			s.parked[id] = true
		} else if d := decodeDiscarded(r); d != nil {
			s.discarded[id] = d
		} else {
			s.released[id] = true
		}
		if r.Offset >= before {
			s.moving[id] = true
		}
	})
}

// settledSoon is settledEnds with an end to its patience: a transaction that stays open is an error.
func settledSoon(ctx context.Context, admin *kadm.Client, names []string) (kadm.ListedOffsets, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("a transaction has been open for %v: millrace doctor says whose it is", startTimeout))
	defer cancel()
	ends, err := settledEnds(ctx, admin, names)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", err, context.Cause(ctx))
	}
	return ends, err
}
