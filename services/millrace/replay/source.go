package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/pace"
	"github.com/millrace/millrace/services/relay"
)

// source is the topic that is copied, up to where it ended when it was opened.
type source struct {
	client *kgo.Client
	topic  string
	log    *relay.Log
}

func openSource(ctx context.Context, client *kgo.Client, topic string) (*source, error) {
	log, err := relay.OpenLog(ctx, client, topic, false)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("%w: %s", ErrNoTopic, topic)
	}
	if err != nil {
		return nil, err
	}
	return &source{client: client, topic: topic, log: log}, nil
}

func (s *source) id() string        { return s.log.ID() }
func (s *source) partitions() int32 { return s.log.Partitions() }

// A broker that does not answer, or leads no more, is given so many tries.
const (
	readTries = 12
	readPause = 5 * time.Second
)

// read returns records from an offset on, before the end, where to go on, and what of it retention has taken.
func (s *source) read(ctx context.Context, partition int32, from, end int64) (records []*kgo.Record, next int64, gone *Gone, err error) {
	pause := 50 * time.Millisecond
	for try := 0; ; try++ {
		if records, next, err = s.log.Read(ctx, partition, from); err == nil {
			return records, min(next, end), gone, nil
		}
		if ctx.Err() != nil {
			return nil, from, gone, ctx.Err()
		}
		if try == readTries {
			return nil, from, gone, fmt.Errorf("%w: tried %d times", err, try+1)
		}
		if !errors.Is(err, kerr.OffsetOutOfRange) {
			if err := pace.Sleep(ctx, pause); err != nil {
				return nil, from, gone, err
			}
			pause = min(2*pause, readPause)
		}
		if missing, err := s.reopen(ctx, partition, from, end); err != nil {
			return nil, from, gone, err
		} else if missing != nil {
			gone, from = missing, missing.To+1
			if from >= end {
				return nil, end, gone, nil
			}
		}
	}
}

// reopen looks anew who leads the partitions, and where they begin.
func (s *source) reopen(ctx context.Context, partition int32, from, end int64) (*Gone, error) {
	again, err := openSource(ctx, s.client, s.topic)
	if errors.Is(err, ErrNoTopic) {
		return nil, err
	}
	if err != nil {
		return nil, nil // tried again
	}
	if again.id() != s.id() {
		return nil, fmt.Errorf("%w: %s was deleted and made anew meanwhile", ErrNoTopic, s.topic)
	}
	s.log = again.log
	if start, _ := s.log.Extent(partition); start > from {
		return &Gone{partition, from, min(start, end) - 1}, nil
	}
	return nil, nil
}
