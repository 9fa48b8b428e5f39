package verify

import (
	"context"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
)

// letters are the events that a sink put aside, below its positions.
type letters struct {
	// pending events are not in the sink; settled ones were applied later, or given up. By offset.
	pending, settled map[consumers.TopicPartition]map[int64]bool
	// keys have letters: their states are compared one by one.
	keys map[string]map[string]*letterKey // by topic and key
}

// letterKey is a key with letters.
type letterKey struct {
	pending, settled int
}

// readLetters reads the sink's dead letters.
func readLetters(ctx context.Context, cfg Config, at map[consumers.TopicPartition]int64) (*letters, error) {
	l := &letters{
		pending: map[consumers.TopicPartition]map[int64]bool{}, settled: map[consumers.TopicPartition]map[int64]bool{}, keys: map[string]map[string]*letterKey{},
	}
	err := dlq.New(cfg.Sink, cfg.Kafka...).List(ctx, dlq.Filter{Settled: true}, func(e dlq.Entry) error {
		if e.Offset < at[e.TopicPartition] {
			l.add(&e)
		}
		return nil
	})
	return l, err
}

func (l *letters) add(e *dlq.Entry) {
	into := l.settled
	if e.Pending {
		into = l.pending
	}
	if into[e.TopicPartition] == nil {
		into[e.TopicPartition] = map[int64]bool{}
	}
	into[e.TopicPartition][e.Offset] = true
	if !e.HasKey() {
		return
	}
	if l.keys[e.Topic] == nil {
		l.keys[e.Topic] = map[string]*letterKey{}
	}
	k := l.keys[e.Topic][e.Key]
	if k == nil {
		k = &letterKey{}
		l.keys[e.Topic][e.Key] = k
	}
	if e.Pending {
		k.pending++
	} else {
		k.settled++
	}
}

// count counts keys that wait, and those with settled letters.
func (l *letters) count() (waiting, settled int64) {
	for _, keys := range l.keys {
		for _, k := range keys {
			if k.pending > 0 {
				waiting++
			}
			if k.settled > 0 {
				settled++
			}
		}
	}
	return waiting, settled
}

// has says whether a key of a topic has letters.
func (l *letters) has(topic, key string) bool { return l.keys[topic][key] != nil }
