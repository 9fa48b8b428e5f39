package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// directRig is a direct producer on a broker that can be made to answer wrongly.
type directRig struct {
	*direct
	cluster *kfake.Cluster
	reader  *kgo.Client
}

func newDirectRig(t *testing.T) *directRig {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cfg := Config{Outbox: "o", Kafka: []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}}.WithDefaults()
	p, err := newProducer(cfg, func(string) int { return 2000 })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	if err := p.fence(t.Context(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	d, err := newDirect(t.Context(), cfg, p, func(string) int { return 2000 })
	if err != nil || d == nil {
		t.Fatal(d, err)
	}
	reader, err := newClient(cfg.Kafka, kgo.ConsumeTopics("t"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	return &directRig{d, c, reader}
}

// send publishes and commits transaction t: n records in each of three partitions, more than one batch of them.
func (r *directRig) send(t *testing.T, number int64, n int) error {
	t.Helper()
	e, w := r.newEncoder(), &wire{}
	for i := range n {
		for p := range int32(3) {
			value := fmt.Sprintf("%d/%d/%03d", number, p, i) + strings.Repeat(".", 50)
			e.add(w, &kgo.Record{Topic: "t", Partition: p, Key: []byte("k"), Value: []byte(value)}, false)
		}
	}
	e.sealAll(w)
	if err := r.publish(t.Context(), number, nil, w); err != nil {
		return err
	}
	return r.commit(t.Context(), number)
}

// read reads n records, and sees that each comes once and in order.
func (r *directRig) read(t *testing.T, n int) {
	t.Helper()
	last := map[int32]string{}
	for got := 0; got < n; {
		fetches := r.reader.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			got++
			if value := string(rec.Value); value <= last[rec.Partition] {
				t.Errorf("partition %d: %.20s after %.20s", rec.Partition, value, last[rec.Partition])
			} else {
				last[rec.Partition] = value
			}
		})
	}
}

// answer makes the broker refuse so many requests with the code, for every partition.
func (r *directRig) answer(times int32, code *kerr.Error) *atomic.Int32 {
	var given atomic.Int32
	r.cluster.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if given.Load() >= times {
			return nil, nil, false
		}
		given.Add(1)
		req := kreq.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range req.Topics {
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, code.Code
				topic.Partitions = append(topic.Partitions, part)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	return &given
}

func TestPromise3BatchesOfOurOwn(t *testing.T) {
	t.Parallel()
	r := newDirectRig(t)
	for number := range int64(6) { // each id three times: epochs grow, sequences begin anew
		if err := r.send(t, number, 100); err != nil {
			t.Fatal(err)
		}
	}
	r.read(t, 6*300)
}

// A refusal that passes is answered by sending the same batch again.
func TestPromise3ABatchIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.ConcurrentTransactions} {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			r := newDirectRig(t)
			given := r.answer(2, code)
			if err := r.send(t, 0, 100); err != nil || given.Load() != 2 {
				t.Fatalf("after %d answers: %v", given.Load(), err)
			}
			r.read(t, 300)
		})
	}
}

// One that lasts is told after some seconds, with its reason.
func TestARefusalThatLastsIsTold(t *testing.T) {
	t.Parallel()
	r := newDirectRig(t)
	r.answer(1000, kerr.NotEnoughReplicas)
	if err := r.send(t, 0, 1); !errors.Is(err, kerr.NotEnoughReplicas) {
		t.Errorf("%v", err)
	}
}

// A batch whose answer was lost is sent again, and written once.
func TestPromise3AnAnswerToABatchIsLost(t *testing.T) {
	t.Parallel()
	r := newDirectRig(t)
	ctx := t.Context()
	e, w := r.newEncoder(), &wire{}
	e.add(w, &kgo.Record{Topic: "t", Key: []byte("k"), Value: []byte("once")}, false)
	e.sealAll(w)
	s := r.senders[0]
	if err := s.send(ctx, w.batches); err != nil {
		t.Fatal(err)
	}
	// As if nobody had heard: the very same bytes once more.
	if failed, err := s.once(ctx, w.batches); err != nil || len(failed) > 0 {
		t.Fatal(failed, err)
	}
	if err := r.commit(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.send(t, 1, 1); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for n := 0; n < 4; {
		fetches := r.reader.PollFetches(ctx)
		fetches.EachRecord(func(rec *kgo.Record) { seen[string(rec.Value)]++; n++ })
	}
	if seen["once"] != 1 {
		t.Errorf("written %d times", seen["once"])
	}
}

// Promise 3: a request that is lost on the way, or comes late, when its transaction has ended, takes up its share of the time only. It is
// sent again, and each event is there once.
func TestPromise3ARequestThatIsSwallowedIsSentAgain(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"lost": false, "late": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newDirectRig(t)
			r.timeout = 18 * time.Second // the client on its own gives a connection up after 20 s
			for _, s := range r.senders {
				s.patience = 2 * time.Second
			}
			var come atomic.Int32
			over := make(chan struct{})
			r.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				r.cluster.KeepControl()
				if come.Add(1) > 1 {
					return nil, nil, false
				}
				if late {
					r.cluster.SleepControl(func() { <-over })
				}
				return nil, nil, !late
			})
			err := r.send(t, 0, 1)
			close(over)
			if err != nil || come.Load() < 2 {
				t.Fatalf("after %d requests: %v", come.Load(), err)
			}
			if err := r.send(t, 2, 1); err != nil {
				t.Fatal(err)
			}
			r.read(t, 6)
		})
	}
}

// What a broker refuses for good names the first record of the batch, and sends nothing again.
func TestABatchThatIsRefusedNamesItsRecord(t *testing.T) {
	t.Parallel()
	r := newDirectRig(t)
	given := r.answer(1000, kerr.MessageTooLarge)
	err := r.send(t, 0, 1)
	var refused *refusedError
	if !errors.As(err, &refused) || refused.topic != "t" || refused.key != "k" || given.Load() != 1 {
		t.Errorf("after %d answers: %v", given.Load(), err)
	}
}

// Promise 3: a producer that was shut out learns it from its next batch, and from its commit.
func TestPromise3AProducerThatWasShutOutSendsNothing(t *testing.T) {
	t.Parallel()
	r := newDirectRig(t)
	if err := r.send(t, 0, 1); err != nil {
		t.Fatal(err)
	}
	p, err := newProducer(Config{Outbox: "o", Kafka: []kgo.Opt{kgo.SeedBrokers(r.cluster.ListenAddrs()...)}}.WithDefaults(), func(string) int { return 2000 })
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.fence(t.Context(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	if err := r.send(t, 2, 1); !errors.Is(err, kerr.InvalidProducerEpoch) && !errors.Is(err, kerr.ProducerFenced) {
		t.Errorf("%v", err)
	}
}

// A broker that does not get done with the last transaction is not sent the same megabytes two hundred times a second.
func TestABrokerThatDoesNotEndATransactionIsLeftInPeace(t *testing.T) {
	t.Parallel()
	r := newDirectRig(t)
	r.timeout = 2 * time.Second
	given := r.answer(1000, kerr.ConcurrentTransactions)
	if err := r.send(t, 0, 1); !errors.Is(err, kerr.ConcurrentTransactions) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if n := given.Load(); n > 60 {
		t.Errorf("sent %d times", n)
	}
}
