package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/fold"
)

// recreated are the topics that were deleted and made again since the generation that serves has applied them, which has stopped it. Where it stands in them says nothing any
// more, and is put back to the beginning, so that the new generation need not come up with it.
func (j *Job) recreated(ctx context.Context) (topics []string, err error) {
	if !errors.Is(j.cfg.Host.Stopped(j.rec.Serving), consumers.ErrTopicChanged) {
		return nil, nil
	}
	now, err := j.adm.ListTopics(ctx, j.cfg.Topics...)
	if err != nil {
		return nil, fmt.Errorf("ask for the ids of the topics: %w", err)
	}
	err = j.serving(ctx, func(s Store) error {
		at, err := s.Sink().Positions(ctx)
		if err != nil {
			return err
		}
		for tp := range at {
			t, there := now[tp.Topic]
			if !there || t.Err != nil {
				continue
			}
			c, err := s.Sink().Claim(ctx, tp)
			if err == nil && fold.Recreated(c, t.ID) {
				topics = append(topics, tp.Topic)
				err = s.Sink().Commit(ctx, fold.Commit{TopicPartition: tp, Epoch: c.Epoch, From: c.Next, Next: 0})
			}
			if err != nil {
				return fmt.Errorf("leave the former topic %s/%d behind: %w", tp.Topic, tp.Partition, err)
			}
		}
		return nil
	})
	slices.Sort(topics)
	return slices.Compact(topics), err
}

// incomparable is the comparison of a generation with one whose topics are no more: there is none, and a person accepts that.
func incomparable() *compare.Comparison {
	return &compare.Comparison{At: time.Now().UTC(), Acceptable: true, Entities: map[string]*compare.Compared{}}
}
