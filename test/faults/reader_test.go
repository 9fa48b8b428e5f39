package faults

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// records reads a topic to its end as a read_committed consumer sees it, once no transaction is open on it, past the gate. It asks
// for each part: where a log ends in markers and aborted records, a consuming client does not always tell that it is at the end.
func (w *world) records(topic string) []*kgo.Record {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	ends := w.stableEnds(ctx, topic)
	meta, err := w.admin.Metadata(ctx, topic)
	if err != nil {
		w.t.Fatal(err)
	}
	client := w.broker.Client(w.t)
	defer client.Close()
	var all []*kgo.Record
	for p, end := range ends {
		for at := int64(0); at < end; {
			got, next, err := fetch(ctx, client, meta.Topics[topic], p, at)
			if err != nil || next <= at {
				w.t.Fatalf("read %s, partition %d, from offset %d of %d: next is %d, %v", topic, p, at, end, next, err)
			}
			for _, rec := range got {
				if rec.Offset < end {
					all = append(all, rec)
				}
			}
			at = next
		}
	}
	return all
}

// fetch returns the committed records of one answer, and the offset behind it.
func fetch(ctx context.Context, client *kgo.Client, topic kadm.TopicDetail, partition int32, from int64) ([]*kgo.Record, int64, error) {
	const size = 4 << 20
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes, req.IsolationLevel = 0, size, 1
	t, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, from, size
	t.Topic, t.TopicID, t.Partitions = topic.Topic, topic.ID, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	raw, err := client.Broker(int(topic.Partitions[partition].Leader)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, from, err
	}
	resp := raw.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, from, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, from, errors.New("the broker left the partition out of its answer")
	}
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: topic.Topic, Partition: partition,
	}, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	return got.Records, next, got.Err
}

// stableEnds returns where a topic ends once no transaction is open on it.
func (w *world) stableEnds(ctx context.Context, topic string) map[int32]int64 {
	w.t.Helper()
	ends := map[int32]int64{}
	eventually(w.t, "open transactions on "+topic+" to end", func() (bool, string) {
		high, err := w.admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return false, err.Error()
		}
		stable, err := w.admin.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return false, err.Error()
		}
		var open []string
		high.Each(func(h kadm.ListedOffset) {
			s, _ := stable.Lookup(topic, h.Partition)
			ends[h.Partition] = h.Offset
			if err := errors.Join(h.Err, s.Err); err != nil || s.Offset < h.Offset {
				open = append(open, fmt.Sprintf("partition %d: %d of %d are stable, %v", h.Partition, s.Offset, h.Offset, err))
			}
		})
		return len(open) == 0 && len(ends) > 0, fmt.Sprint(open)
	})
	return ends
}
