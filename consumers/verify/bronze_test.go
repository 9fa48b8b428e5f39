package verify

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// unreadable keeps events without their bytes.
type unreadable struct{ fold.Sink }

func (unreadable) Records(context.Context, consumers.TopicPartition, int64, int64, func(*kgo.Record) error) error {
	return fold.ErrNoPayload
}

func (unreadable) Kept(context.Context) (map[consumers.TopicPartition]fold.Kept, error) {
	return nil, nil
}

// A dead letter may wait for an event that retention has taken from the log: it is none of those that the sink should keep of what the log has.
func TestLettersOfForgottenEventsMakeNoDifference(t *testing.T) {
	tp := consumers.TopicPartition{Topic: "orders"}
	seen := newOffsets(100)
	for offset := int64(100); offset < 110; offset++ {
		seen.add(offset)
	}
	r := &topicRun{run: &run{
		cfg:     Config{Store: unreadable{}},
		kept:    map[consumers.TopicPartition]fold.Kept{tp: {First: 100, Last: 109, Events: 9, Offsets: 9}},
		letters: &letters{pending: map[consumers.TopicPartition]map[int64]bool{tp: {7: true, 105: true}}},
	}}
	if err := r.events(t.Context(), tp, 110, seen); err != nil {
		t.Fatal(err)
	}
	if b := r.bronze[0]; b.differences() != 0 || b.Expected != 9 {
		t.Errorf("%+v", b)
	}
}
