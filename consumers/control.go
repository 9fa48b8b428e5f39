package consumers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// control follows the sink's control topic, keeps the requests that nobody has answered, and writes answers. Every process of the
// sink follows all of it: a request may be for a partition that it takes over later.
type control struct {
	c     *Consumer
	topic string
	out   *kgo.Client // writes answers

	mu      sync.Mutex // guards the following
	ready   bool       // what the topic held at the start is read: a request without an answer has none
	pending map[TopicPartition][]*Request
	fresh   map[TopicPartition]bool // a request came that the lane has not looked at
	bytes   int                     // of pending
}

// maxPending bounds what unanswered requests take, in bytes. What comes beyond is read again by the next process that starts.
const maxPending = 64 << 20

// newControl returns nil if the Processor puts nothing aside.
func newControl(c *Consumer) (*control, error) {
	if _, ok := c.proc.(Redriver); !ok {
		return nil, nil
	}
	cl, err := kgo.NewClient(append(slices.Clone(c.cfg.Kafka),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordDeliveryTimeout(letterTimeout), kgo.MetadataMinAge(metadataMinAge),
		kgo.UnknownTopicRetries(5))...)
	if err != nil {
		return nil, fmt.Errorf("consumer %s: %w", c.cfg.Name, err)
	}
	return &control{c: c, topic: ControlTopic(c.cfg.Name), out: cl, pending: map[TopicPartition][]*Request{}, fresh: map[TopicPartition]bool{}}, nil
}

func (k *control) close() {
	if k != nil {
		k.out.Close()
	}
}

// follow reads the control topic, waiting for one that does not exist yet, until ctx ends.
func (k *control) follow(ctx context.Context) {
	if k == nil {
		return
	}
	told := false
	for ctx.Err() == nil {
		err := k.read(ctx)
		if err != nil && ctx.Err() == nil && !told {
			k.c.log.Warn("requests to this sink cannot be read; it is tried again", "topic", k.topic, "err", err)
			told = true
		}
		t := time.NewTimer(k.c.cfg.MonitorInterval)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// read reads the topic from its beginning and on, until something is wrong. It returns nil if there is no topic.
func (k *control) read(ctx context.Context) error {
	all, err := span(ctx, k.c.adm, k.topic)
	if err != nil {
		return err
	}
	if all == nil {
		k.caughtUp()
		return nil
	}
	cl, err := kgo.NewClient(append(slices.Clone(k.c.cfg.Kafka), kgo.ConsumeTopics(k.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.MetadataMinAge(metadataMinAge), kgo.FetchMaxBytes(scanBytes), kgo.FetchMaxPartitionBytes(scanBytes/4),
		kgo.MaxDecompressBatchBytes(maxBatchBytes), kgo.KeepControlRecords())...)
	if err != nil {
		return err
	}
	defer cl.Close()
	k.begin()
	for len(all) > 0 || !k.caughtUp() {
		if err := k.poll(ctx, cl, all); err != nil {
			return err
		}
	}
	for {
		if err := k.poll(ctx, cl, nil); err != nil {
			return err
		}
	}
}

// poll takes records, and partitions off those that are not read to where they ended.
func (k *control) poll(ctx context.Context, cl *kgo.Client, left map[int32]extent) error {
	fetches := cl.PollRecords(ctx, pollRecords)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := firstError(fetches); err != nil {
		return ClassifyKafka(err)
	}
	for _, r := range fetches.Records() {
		if !r.Attrs.IsControl() {
			k.take(r)
		}
		if e, ok := left[r.Partition]; ok && r.Offset >= e.end-1 {
			delete(left, r.Partition)
		}
	}
	return nil
}

// begin forgets that the topic is read: what is read once more may hold requests whose answers come later.
func (k *control) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ready = false
}

// caughtUp makes what is pending the lanes' business. It returns true.
func (k *control) caughtUp() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ready {
		k.ready = true
		for tp := range k.pending {
			k.callLocked(tp)
		}
	}
	return true
}

// take takes a record in.
func (k *control) take(r *kgo.Record) {
	q, a, err := ReadControl(r.Value)
	if err != nil {
		k.c.log.Warn("a record of the control topic is left out", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case a != nil && a.Outcome != Underway:
		k.dropLocked(a.TopicPartition(), a.ID)
	case q != nil:
		k.addLocked(q, len(r.Value))
	}
}

func (k *control) addLocked(q *Request, size int) {
	tp := q.TopicPartition()
	if slices.ContainsFunc(k.pending[tp], func(p *Request) bool { return p.ID == q.ID }) {
		return
	}
	if k.bytes+size > maxPending {
		k.c.log.Error("too many requests are waiting: one is left for the next start", "topic", q.Topic, "partition", q.Partition, "key", q.Key)
		return
	}
	q.size = size
	k.bytes += size
	k.pending[tp] = append(k.pending[tp], q)
	if k.ready {
		k.callLocked(tp)
	}
}

func (k *control) dropLocked(tp TopicPartition, id string) {
	i := slices.IndexFunc(k.pending[tp], func(p *Request) bool { return p.ID == id })
	if i < 0 {
		return
	}
	k.bytes -= k.pending[tp][i].size
	k.pending[tp] = slices.Delete(k.pending[tp], i, i+1)
	if len(k.pending[tp]) == 0 {
		delete(k.pending, tp)
		delete(k.fresh, tp)
	}
}

// callLocked wakes the lane of a partition, if it is this process's.
func (k *control) callLocked(tp TopicPartition) {
	k.fresh[tp] = true
	k.c.mu.Lock()
	l := k.c.lanes[tp]
	k.c.mu.Unlock()
	if l != nil {
		wake(l.signal)
	}
}

func (k *control) attends() bool { return k.c.cfg.Attends == nil || k.c.cfg.Attends() }

// Attend makes the lanes look at what was asked for: Config.Attends has become true.
func (c *Consumer) Attend() {
	if k := c.asked.Load(); k != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		for tp := range k.pending {
			k.callLocked(tp)
		}
	}
}

// call makes the lane look at its requests once more.
func (k *control) call(tp TopicPartition) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fresh[tp] = true
}

// called says whether there is a request that the lane has not looked at.
func (k *control) called(tp TopicPartition) bool {
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ready && k.fresh[tp] && k.attends()
}

// requests returns the unanswered requests for a partition, in the order in which they were put.
func (k *control) requests(tp TopicPartition) []*Request {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ready || !k.attends() {
		return nil
	}
	delete(k.fresh, tp)
	return slices.Clone(k.pending[tp])
}

// answer writes answers, and returns when they are durable. Requests with a last answer are pending no more.
func (k *control) answer(ctx context.Context, answers ...*Answer) error {
	records := make([]*kgo.Record, len(answers))
	for i, a := range answers {
		a.At = time.Now().UTC()
		a.Detail = cut(a.Detail, maxReason)
		value, err := json.Marshal(a)
		if err != nil {
			return err
		}
		// Keyed by the request: compaction leaves the answer and takes the request.
		records[i] = &kgo.Record{Topic: k.topic, Key: []byte(a.ID), Value: value}
	}
	if err := k.out.ProduceSync(ctx, records...).FirstErr(); err != nil {
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			err = AsSystemic(err) // and with it the request
		}
		return ClassifyKafka(fmt.Errorf("write %d answers to %s: %w", len(answers), k.topic, err))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range answers {
		if a.Outcome != Underway {
			k.dropLocked(a.TopicPartition(), a.ID)
		}
	}
	return nil
}

// forget drops requests that can be carried out but not answered, until the next start.
func (k *control) forget(answers []*Answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range answers {
		k.dropLocked(a.TopicPartition(), a.ID)
	}
}
