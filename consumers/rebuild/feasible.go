package rebuild

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// feasible says why a rebuild cannot be begun; nil if it can.
func (j *Job) feasible(ctx context.Context, o Options) error {
	if _, timed := o.since(); timed {
		return nil
	}
	starts, err := j.starts(ctx)
	if err != nil {
		return err
	}
	return j.serving(ctx, func(s Store) error {
		_, keeps := s.Sink().(fold.EventKeeper)
		if o.From == FromBronze && !keeps {
			return errors.New("this sink keeps no events, and has no bronze to begin at: begin at the beginning of the log")
		}
		at, err := s.Sink().Positions(ctx)
		if err != nil {
			return err
		}
		for tp, start := range starts {
			if err := reaches(tp, start, at[tp], keeps); err != nil {
				return err
			}
		}
		return nil
	})
}

// reaches says whether everything of a partition can be had: from the log, or below where it begins from what the sink keeps, which ends at position.
func reaches(tp consumers.TopicPartition, start, position int64, keeps bool) error {
	switch {
	case start == 0:
		return nil
	case !keeps:
		return fmt.Errorf("the log of %s/%d begins at offset %d: the events before are gone, and this sink does not keep them. Rebuild it from a time on (--from TIME), if those before are of no use",
			tp.Topic, tp.Partition, start)
	case position < start:
		return consumers.AsSystemic(fmt.Errorf("the log of %s/%d begins at offset %d, and what the sink keeps ends at %d: the events between are gone", tp.Topic, tp.Partition, start, position))
	}
	return nil
}

// starts are the first offsets that the topics have.
func (j *Job) starts(ctx context.Context) (map[consumers.TopicPartition]int64, error) {
	listed, err := j.adm.ListStartOffsets(ctx, j.cfg.Topics...)
	return offsets(listed, err)
}

// begins are the first offsets at or after the time that the options name; nil if they name none.
func (j *Job) begins(ctx context.Context, o Options) (map[consumers.TopicPartition]int64, error) {
	since, timed := o.since()
	if !timed {
		return nil, nil
	}
	listed, err := j.adm.ListOffsetsAfterMilli(ctx, since.UnixMilli(), j.cfg.Topics...)
	return offsets(listed, err)
}

func offsets(listed kadm.ListedOffsets, err error) (map[consumers.TopicPartition]int64, error) {
	if err != nil {
		return nil, fmt.Errorf("ask for the offsets of the topics: %w", err)
	}
	out := map[consumers.TopicPartition]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		switch {
		case errors.Is(o.Err, kerr.UnknownTopicOrPartition): // there is nothing in it yet
		case o.Err != nil && err == nil:
			err = fmt.Errorf("ask for the offsets of %s/%d: %w", o.Topic, o.Partition, o.Err)
		default:
			out[consumers.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o.Offset
		}
	})
	return out, err
}
