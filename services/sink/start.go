package sink

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// Where a webhook begins that has posted nothing yet.
const (
	startEarliest = "earliest"
	startLatest   = "latest"
)

// startTime reads Config.Start: the time from which on events are posted; zero for all of them.
func startTime(text string, now time.Time) (time.Time, error) {
	switch text {
	case "", startEarliest:
		return time.Time{}, nil
	case startLatest:
		return now, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Unix() <= 0 {
		return at, fmt.Errorf("%q is none of %s, %s, a time such as 2026-03-01T10:00:00Z", text, startEarliest, startLatest)
	}
	return at, nil
}

func startError(text string) error {
	_, err := startTime(text, time.Time{})
	return err
}

// beginsAt asks for the first offset of a partition whose record is of a time or later; the end if there is none.
func beginsAt(kafka []kgo.Opt, since time.Time) func(context.Context, consumers.TopicPartition) (int64, error) {
	return func(ctx context.Context, tp consumers.TopicPartition) (int64, error) {
		cl, err := kgo.NewClient(kafka...)
		if err != nil {
			return 0, err
		}
		defer cl.Close()
		all, err := kadm.NewClient(cl).ListOffsetsAfterMilli(ctx, since.UnixMilli(), tp.Topic)
		if err != nil {
			return 0, consumers.ClassifyKafka(err)
		}
		at, ok := all.Lookup(tp.Topic, tp.Partition)
		if !ok {
			return 0, fmt.Errorf("no offset of %s/%d is in the answer", tp.Topic, tp.Partition)
		}
		return at.Offset, consumers.ClassifyKafka(at.Err)
	}
}
