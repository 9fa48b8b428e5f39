package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// sender sends the batches of transactions to the leaders of their partitions, under one transactional id. It is not for
// concurrent use.
type sender struct {
	client *kgo.Client
	txnID  string
	// id and epoch are the producer's; known once the id was taken.
	id    int64
	epoch int16
	// next is the sequence number of a partition's next batch in this epoch.
	next   map[partitionKey]int32
	topics map[string]kadm.TopicDetail
	// patience is how long a broker may take over one request with batches.
	patience time.Duration
	// open says that the broker may have a transaction of this id that was not ended.
	open bool
}

type partitionKey struct {
	topic     string
	partition int32
}

const (
	// produceTimeout is how long a broker may take to get a batch to its replicas.
	produceTimeout = 10 * time.Second
	// sendings is how often a request fits into PublishTimeout that nobody answers.
	sendings = 3
	// txnPause is how long a broker is left in peace that is still ending the last transaction of an id: it takes some 20 ms. After
	// usualPauses something is wrong there, and the pauses double up to maxTxnPause: the batches of a page are megabytes.
	txnPause    = 5 * time.Millisecond
	maxTxnPause = 200 * time.Millisecond
	usualPauses = 10
)

// adopt takes over producer id and epoch. In a new epoch sequences begin anew.
func (s *sender) adopt(id int64, epoch int16) {
	if s.next == nil || s.id != id || s.epoch != epoch {
		s.id, s.epoch, s.next = id, epoch, map[partitionKey]int32{}
	}
}

// send sends every batch and returns when all are acknowledged. Of a partition the next batch is sent after the last is
// acknowledged; partitions do not wait for each other otherwise than in rounds.
func (s *sender) send(ctx context.Context, batches []*recordBatch) error {
	s.open = s.open || len(batches) > 0
	for len(batches) > 0 {
		var now, later []*recordBatch
		taken := make(map[partitionKey]bool, len(batches))
		for _, b := range batches {
			at := partitionKey{b.topic, b.partition}
			if taken[at] {
				later = append(later, b)
				continue
			}
			taken[at] = true
			b.sequence = s.next[at]
			s.next[at] = b.sequence + b.count
			b.finish(s.id, s.epoch)
			now = append(now, b)
		}
		if err := s.round(ctx, now); err != nil {
			return err
		}
		batches = later
	}
	return nil
}

// round sends one batch a partition, again where that may help. A batch that was written although the answer was lost is not
// written twice: the broker knows its sequence number.
func (s *sender) round(ctx context.Context, batches []*recordBatch) error {
	pause := backoff{min: 250 * time.Millisecond, max: 2 * time.Second}
	for attempt, ending := 0, 0; ; {
		failed, err := s.once(ctx, batches)
		switch {
		case err != nil || len(failed) == 0:
			return err
		case slices.ContainsFunc(failed, func(f failedBatch) bool { return !errors.Is(f.err, kerr.ConcurrentTransactions) }):
			if attempt == recordRetries {
				return failed[0].err
			}
			s.topics = nil // the leader may be another
			err = pause.wait(ctx, attempt)
			attempt++
		default:
			err = sleep(ctx, pauseForEnd(ending))
			ending++
		}
		if err != nil {
			return fmt.Errorf("not acknowledged: %w; at last: %w", err, failed[0].err)
		}
		batches = batches[:0:0]
		for _, f := range failed {
			batches = append(batches, f.batch)
		}
	}
}

// pauseForEnd is the pause after the given one, from 0, in which a broker ends a transaction.
func pauseForEnd(pauses int) time.Duration {
	doubled := min(max(pauses-usualPauses, 0), 8)
	return min(txnPause<<doubled, maxTxnPause)
}

// failedBatch is a batch that can be sent again.
type failedBatch struct {
	batch *recordBatch
	err   error
}

// once sends each batch to its leader. The error is one that sending again does not mend.
func (s *sender) once(ctx context.Context, batches []*recordBatch) ([]failedBatch, error) {
	byLeader := map[int32][]*recordBatch{}
	var failed []failedBatch
	for _, b := range batches {
		leader, err := s.leader(ctx, b, batches)
		switch {
		case err == nil:
			byLeader[leader] = append(byLeader[leader], b)
		case kerr.IsRetriable(err) || !isBrokerAnswer(err):
			failed = append(failed, failedBatch{b, err})
		default:
			return nil, refusedBatch(b, err)
		}
	}
	var mu sync.Mutex
	var final error
	var all sync.WaitGroup
	for leader, part := range byLeader {
		all.Go(func() {
			again, err := s.request(ctx, leader, part)
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, again...)
			final = cmp.Or(final, err)
		})
	}
	all.Wait()
	return failed, final
}

func isBrokerAnswer(err error) bool {
	var answer *kerr.Error
	return errors.As(err, &answer)
}

// leader returns the leader of a batch's partition; it asks about all topics of the batches if it does not know.
func (s *sender) leader(ctx context.Context, b *recordBatch, batches []*recordBatch) (int32, error) {
	detail, known := s.topics[b.topic]
	if !known {
		var names []string
		for _, other := range batches {
			if !slices.Contains(names, other.topic) {
				names = append(names, other.topic)
			}
		}
		meta, err := kadm.NewClient(s.client).Metadata(ctx, names...)
		if err != nil {
			return 0, fmt.Errorf("ask who leads %s: %w", b.topic, err)
		}
		if s.topics == nil {
			s.topics = map[string]kadm.TopicDetail{}
		}
		for name, d := range meta.Topics {
			s.topics[name] = d
		}
		if detail, known = s.topics[b.topic]; !known {
			return 0, kerr.UnknownTopicOrPartition
		}
	}
	p, known := detail.Partitions[b.partition]
	switch {
	case detail.Err != nil:
		return 0, fmt.Errorf("ask who leads %s: %w", b.topic, detail.Err)
	case !known:
		return 0, fmt.Errorf("partition %d of %s: %w", b.partition, b.topic, kerr.UnknownTopicOrPartition)
	case p.Err != nil && !errors.Is(p.Err, kerr.ReplicaNotAvailable):
		return 0, fmt.Errorf("ask who leads partition %d of %s: %w", b.partition, b.topic, p.Err)
	case p.Leader < 0:
		return 0, fmt.Errorf("partition %d of %s: %w", b.partition, b.topic, kerr.LeaderNotAvailable)
	}
	return p.Leader, nil
}

// request sends batches to one broker.
func (s *sender) request(ctx context.Context, leader int32, batches []*recordBatch) ([]failedBatch, error) {
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID, req.Acks, req.TimeoutMillis = &s.txnID, -1, int32(produceTimeout.Milliseconds())
	for _, b := range batches {
		i := slices.IndexFunc(req.Topics, func(t kmsg.ProduceRequestTopic) bool { return t.Topic == b.topic })
		if i < 0 {
			t := kmsg.NewProduceRequestTopic()
			t.Topic, t.TopicID = b.topic, s.topics[b.topic].ID
			req.Topics, i = append(req.Topics, t), len(req.Topics)
		}
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = b.partition, b.bytes
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	// A request that was lost on the way gives way to another, over another connection, before the whole transaction is given up. If it
	// comes after all, the broker knows its batches by their sequence numbers, and once the transaction has ended by their epoch.
	bounded, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	raw, err := s.client.Broker(int(leader)).Request(bounded, req)
	if err == nil {
		return answers(raw.(*kmsg.ProduceResponse), batches, s.topics)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("not acknowledged: %w", ctx.Err())
	}
	failed := make([]failedBatch, len(batches))
	for i, b := range batches {
		failed[i] = failedBatch{b, fmt.Errorf("send to broker %d: %w", leader, err)}
	}
	return failed, nil
}

// answers looks at what a broker says about each batch. One that it says nothing about has failed.
func answers(resp *kmsg.ProduceResponse, batches []*recordBatch, topics map[string]kadm.TopicDetail) ([]failedBatch, error) {
	var failed []failedBatch
	for _, b := range batches {
		answer := answerTo(resp, b, topics[b.topic].ID)
		if answer == nil {
			return nil, fmt.Errorf("the broker did not answer for partition %d of %s", b.partition, b.topic)
		}
		err := kerr.ErrorForCode(answer.ErrorCode)
		switch {
		case err == nil:
			b.placed(answer.BaseOffset)
		case errors.Is(err, kerr.DuplicateSequenceNumber):
			if len(b.watched) > 0 {
				return nil, fmt.Errorf("the batch for partition %d of %s was written before, nobody knows where: %w", b.partition, b.topic, err)
			}
		case kerr.IsRetriable(err) || errors.Is(err, kerr.ConcurrentTransactions):
			failed = append(failed, failedBatch{b, fmt.Errorf("partition %d of %s: %w", b.partition, b.topic, err)})
		default:
			return nil, refusedBatch(b, err)
		}
	}
	return failed, nil
}

func answerTo(resp *kmsg.ProduceResponse, b *recordBatch, id kadm.TopicID) *kmsg.ProduceResponseTopicPartition {
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic != b.topic && (t.Topic != "" || t.TopicID != id) {
			continue
		}
		for j := range t.Partitions {
			if t.Partitions[j].Partition == b.partition {
				return &t.Partitions[j]
			}
		}
	}
	return nil
}

// refusedBatch names the batch in the error, and its first record if it is the batch that is at fault.
func refusedBatch(b *recordBatch, err error) error {
	if !slices.ContainsFunc(final, func(f error) bool { return errors.Is(err, f) }) {
		return fmt.Errorf("partition %d of %s: %w", b.partition, b.topic, err)
	}
	return &refusedError{topic: b.topic, key: b.key, event: cmp.Or(b.event, "unknown"), err: err}
}
