package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// How soon a topic that was just made is asked for again (the client's default is 5 s), and how often one that is not there is looked for.
const (
	metadataMinAge = 100 * time.Millisecond
	lookAgain      = time.Second
	fetchBytes     = 16 << 20
)

// reader reads the topic from its beginning.
type reader struct {
	sink, topic string
	cl          *kgo.Client
	adm         *kadm.Client
	view        *view
	next        int64 // the offset behind the last record read
	exists      bool
}

func newReader(sink string, kafka []kgo.Opt) (*reader, error) {
	cl, err := kgo.NewClient(append(slices.Clone(kafka),
		// A record counts when its transaction is committed: what a former leader left open does not.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // markers take offsets: the end is reached with them
		kgo.MetadataMinAge(metadataMinAge), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchBytes),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)...)
	if err != nil {
		return nil, fmt.Errorf("generations of %s: %w", sink, err)
	}
	return &reader{sink: sink, topic: Topic(sink), cl: cl, adm: kadm.NewClient(cl), view: newView(sink)}, nil
}

func (r *reader) close() { r.cl.Close() }

// end is where the topic ends now, transactions that are open included; false if there is none. Whoever has read committed records so far has read all
// that was committed before it was asked.
func (r *reader) end(ctx context.Context) (int64, bool, error) {
	ends, err := r.adm.ListEndOffsets(ctx, r.topic)
	if err == nil {
		err = ends.Error()
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return 0, false, nil
	}
	end, ok := ends.Lookup(r.topic, 0)
	if err == nil && !ok {
		err = errors.New("partition 0 is not in the answer")
	}
	if err != nil {
		return 0, false, consumers.ClassifyKafka(fmt.Errorf("ask where %s ends: %w", r.topic, err))
	}
	return end.Offset, true, nil
}

// begin begins to read. It returns where the topic ends, and false if there is no topic.
func (r *reader) begin(ctx context.Context) (end int64, exists bool, err error) {
	end, exists, err = r.end(ctx)
	if err != nil || !exists || r.exists {
		return end, exists, err
	}
	r.exists = true
	r.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: {0: kgo.NewOffset().AtStart()}})
	return end, true, nil
}

// poll takes what is there, waiting for it.
func (r *reader) poll(ctx context.Context, odd func(*kgo.Record, error)) error {
	fetches := r.cl.PollFetches(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	var failed error
	fetches.EachError(func(_ string, _ int32, err error) {
		if failed == nil && !kerr.IsRetriable(err) {
			failed = err
		}
	})
	if failed != nil {
		return consumers.ClassifyKafka(fmt.Errorf("read %s: %w", r.topic, failed))
	}
	fetches.EachRecord(func(rec *kgo.Record) {
		if err := r.view.take(rec); err != nil && odd != nil {
			odd(rec, err)
		}
		r.next = rec.Offset + 1
	})
	return nil
}

// read reads to the end.
func (r *reader) read(ctx context.Context, odd func(*kgo.Record, error)) error {
	end, exists, err := r.begin(ctx)
	if err != nil || !exists {
		return err
	}
	start, err := r.start(ctx)
	if err != nil || start >= end {
		return err
	}
	for r.next < end {
		if err := r.poll(ctx, odd); err != nil {
			return err
		}
	}
	return nil
}

// step reads on, or waits for the topic.
func (r *reader) step(ctx context.Context, odd func(*kgo.Record, error)) error {
	if r.exists {
		return r.poll(ctx, odd)
	}
	if !wait(ctx, lookAgain) {
		return ctx.Err()
	}
	return r.read(ctx, odd)
}

func (r *reader) start(ctx context.Context) (int64, error) {
	starts, err := r.adm.ListStartOffsets(ctx, r.topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return 0, consumers.ClassifyKafka(fmt.Errorf("ask where %s begins: %w", r.topic, err))
	}
	start, _ := starts.Lookup(r.topic, 0)
	return start.Offset, nil
}
