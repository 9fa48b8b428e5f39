package position

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// tail reads the topic from its beginning and on.
type tail struct {
	cl   *kgo.Client
	log  *slog.Logger
	stop context.CancelFunc
	done chan struct{} // closed when read has returned

	mu      sync.Mutex // guards the following
	entries map[consumers.TopicPartition]*entry
	next    int64         // the offset that is read next
	moved   chan struct{} // closed when next has moved or err is set
	err     error         // why the reading has ended
}

// follow begins to read.
func follow(cfg Config, topic string) (*tail, error) {
	cl, err := kgo.NewClient(append(slices.Clone(cfg.Kafka),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NoResetOffset().AtStart()}}),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.FetchMaxBytes(maxRecord),
		kgo.MaxDecompressBatchBytes(2*maxRecord),
	)...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &tail{cl: cl, log: cfg.Logger, stop: cancel, done: make(chan struct{}), entries: map[consumers.TopicPartition]*entry{}, moved: make(chan struct{})}
	go func() { defer close(t.done); t.end(t.read(ctx)) }()
	return t, nil
}

// close ends the reading and returns when it has ended.
func (t *tail) close() {
	if t == nil {
		return
	}
	t.stop()
	<-t.done
	t.cl.Close()
}

// read takes records in until something is wrong that the client does not get over by itself.
func (t *tail) read(ctx context.Context) error {
	for {
		fetches := t.cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		var wrong error
		fetches.EachError(func(_ string, _ int32, err error) {
			if wrong == nil && !kerr.IsRetriable(err) {
				wrong = err
			}
		})
		if wrong != nil {
			return wrong
		}
		t.take(fetches.Records())
	}
}

func (t *tail) take(records []*kgo.Record) {
	if len(records) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range records {
		if err := apply(t.entries, r); err != nil && string(r.Key) != syncName {
			t.log.Warn("a record of the position topic is left out", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		}
		t.next = r.Offset + 1
	}
	t.wakeLocked()
}

func (t *tail) wakeLocked() {
	close(t.moved)
	t.moved = make(chan struct{})
}

func (t *tail) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	t.wakeLocked()
}

// failure is why the topic is no longer read; nil if it is.
func (t *tail) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// reach returns when the record at offset is taken in.
func (t *tail) reach(ctx context.Context, offset int64) error {
	for {
		t.mu.Lock()
		next, moved, err := t.next, t.moved, t.err
		t.mu.Unlock()
		switch {
		case next > offset:
			return nil
		case err != nil:
			return fmt.Errorf("read back: %w", err)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("read back: %w", ctx.Err())
		}
	}
}

// entry is a copy of what is known of a partition.
func (t *tail) entry(tp consumers.TopicPartition) entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[tp]
	if e == nil {
		return entry{next: -1}
	}
	out := *e // marks are replaced, never changed
	out.names = maps.Clone(e.names)
	return out
}

func (t *tail) positions() map[consumers.TopicPartition]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[consumers.TopicPartition]int64{}
	for tp, e := range t.entries {
		if e.next >= 0 {
			out[tp] = e.next
		}
	}
	return out
}
