package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// partitionLog reads the committed records of one partition by plain fetch requests. A consuming client would not tell how
// far it has come where the end of a log holds no records any more, but markers, aborted or compacted ones.
type partitionLog struct {
	client    *kgo.Client
	topic     string
	id        kadm.TopicID
	partition int32
	leader    int32
	// start is the first offset; reading ends before end.
	start, end int64
	// dirty reads what no marker has ended yet, or ended with an abort, as well.
	dirty bool
}

// ends lists where reading stops.
type ends func(ctx context.Context, admin *kadm.Client, names []string) (kadm.ListedOffsets, error)

// openLogs opens every partition of the topics.
func openLogs(ctx context.Context, client *kgo.Client, until ends, names ...string) (map[string][]*partitionLog, error) {
	admin := kadm.NewClient(client)
	meta, err := admin.Metadata(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("ask Kafka about %v: %w", names, err)
	}
	start, err := admin.ListStartOffsets(ctx, names...)
	if err == nil {
		err = start.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the first offsets of %v: %w", names, err)
	}
	end, err := until(ctx, admin, names)
	if err != nil {
		return nil, err
	}
	logs := make(map[string][]*partitionLog, len(names))
	for _, name := range names {
		if logs[name], err = openTopic(client, meta.Topics[name], start, end); err != nil {
			return nil, fmt.Errorf("open %s to read it back: %w", name, err)
		}
	}
	return logs, nil
}

// openTopic opens every partition of one topic. What the brokers left out of their answers is an error: a log without an
// end would look empty.
func openTopic(client *kgo.Client, topic kadm.TopicDetail, start, end kadm.ListedOffsets) ([]*partitionLog, error) {
	if topic.Err != nil {
		return nil, topic.Err
	}
	if len(topic.Partitions) == 0 {
		return nil, errors.New("the brokers know no partition of it")
	}
	logs := make([]*partitionLog, 0, len(topic.Partitions))
	for i, p := range topic.Partitions.Sorted() {
		s, started := start.Lookup(topic.Topic, p.Partition)
		e, ended := end.Lookup(topic.Topic, p.Partition)
		if int(p.Partition) != i || !started || !ended {
			return nil, fmt.Errorf("the brokers did not tell where partition %d begins and ends", i)
		}
		logs = append(logs, &partitionLog{
			client: client, topic: topic.Topic, id: topic.ID, partition: p.Partition, leader: p.Leader,
			start: s.Offset, end: e.Offset,
		})
	}
	return logs, nil
}

// committedEnds returns the last stable offsets, whatever is open behind them.
func committedEnds(ctx context.Context, admin *kadm.Client, names []string) (kadm.ListedOffsets, error) {
	stable, err := admin.ListCommittedOffsets(ctx, names...)
	if err == nil {
		err = stable.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the stable offsets of %v: %w", names, err)
	}
	return stable, nil
}

// lastEnds returns the high watermarks.
func lastEnds(ctx context.Context, admin *kadm.Client, names []string) (kadm.ListedOffsets, error) {
	high, err := admin.ListEndOffsets(ctx, names...)
	if err == nil {
		err = high.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the last offsets of %v: %w", names, err)
	}
	return high, nil
}

// stableEnds waits until every transaction on the topics has ended: the last stable offset has reached the high watermark.
func stableEnds(ctx context.Context, admin *kadm.Client, names []string) (kadm.ListedOffsets, error) {
	pause := backoff{min: 2 * time.Millisecond, max: 100 * time.Millisecond}
	for attempt := 0; ; attempt++ {
		high, err := lastEnds(ctx, admin, names)
		if err != nil {
			return nil, err
		}
		stable, err := committedEnds(ctx, admin, names) // after the high watermarks, never before
		if err != nil {
			return nil, err
		}
		if reached(stable, high) {
			return high, nil
		}
		if err := pause.wait(ctx, attempt); err != nil {
			return nil, fmt.Errorf("wait for open transactions on %v to end: %w", names, err)
		}
	}
}

func reached(stable, high kadm.ListedOffsets) bool {
	all := true
	high.Each(func(h kadm.ListedOffset) {
		s, ok := stable.Lookup(h.Topic, h.Partition)
		all = all && ok && s.Offset >= h.Offset
	})
	return all
}

// scan calls fn for the committed records in [from, end), in order. fn returns false to end the scan. An error means that
// the brokers did not give everything; nothing may be concluded from what fn was called for.
func (l *partitionLog) scan(ctx context.Context, from int64, fn func(*kgo.Record) bool) error {
	for from < l.end {
		got, next, err := l.fetch(ctx, from)
		if err == nil && next <= from {
			err = l.ended(got)
		}
		if err != nil {
			return fmt.Errorf("read %s, partition %d, from offset %d: %w", l.topic, l.partition, from, err)
		}
		for _, r := range got.Records {
			if r.Offset < l.end && !fn(r) {
				return nil
			}
		}
		if next <= from {
			return nil
		}
		from = next
	}
	return nil
}

// ended says whether an answer without any batch means that nothing is left below the end: compaction may have taken the
// rest. A broker whose own log ends, or is open, before the end has not got the rest, or not yet again.
func (l *partitionLog) ended(got kgo.FetchPartition) error {
	stable := got.LastStableOffset
	if stable < 0 {
		stable = got.HighWatermark
	}
	if stable < l.end {
		return fmt.Errorf("the broker's log is stable up to offset %d, it was up to %d", stable, l.end)
	}
	return nil
}

// fetchBytes is how much an answer holds, compressed; more if its first batch is larger. Unpacked it may be many times as much.
const fetchBytes = 1 << 20

// fetch returns one answer, and the offset after it: from itself if the answer held no batch.
func (l *partitionLog) fetch(ctx context.Context, from int64) (got kgo.FetchPartition, next int64, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel = 0, 0, fetchBytes, 1
	opts := kgo.ProcessFetchPartitionOpts{Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: l.topic, Partition: l.partition}
	if l.dirty {
		req.IsolationLevel, opts.IsolationLevel = 0, kgo.ReadUncommitted()
	}
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = l.topic, l.id
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = l.partition, from, fetchBytes
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	raw, err := l.client.Broker(int(l.leader)).RetriableRequest(ctx, req)
	if err != nil {
		return got, from, err
	}
	resp := raw.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return got, from, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return got, from, fmt.Errorf("the broker answered for %d topics, not for one partition", len(resp.Topics))
	}
	answer := &resp.Topics[0].Partitions[0]
	got, next = kgo.ProcessFetchPartition(opts, answer, kgo.DefaultDecompressor(), nil)
	if got.Err == nil && next <= from && len(answer.RecordBatches) > 0 {
		return got, from, fmt.Errorf("the broker sent %d bytes that are no whole batch", len(answer.RecordBatches))
	}
	return got, next, got.Err
}
