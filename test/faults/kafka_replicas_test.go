package faults

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/test/harness"
)

// Too few replicas are in sync: the relay waits, says what for, and goes on when that is mended. One broker alone never answers
// this (it counts no more replicas than there are), so a stand-in does.
func TestPromise3NotEnoughReplicas(t *testing.T) {
	t.Parallel()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	w := newWorld(t, setup{outbox: []string{"page_size: 20"}})
	w.edit(w.kafka.addr, fake.ListenAddrs()[0])
	w.onBroker(fake.ListenAddrs())
	var few atomic.Bool
	fake.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		if !few.Load() {
			return nil, nil, false
		}
		return refuseProduce(r.(*kmsg.ProduceRequest), kerr.NotEnoughReplicas), nil, true
	})
	r := w.start("relay")
	w.write(2, 10)
	r.until("to publish", published(w.log.events()))
	at := w.log.events()
	few.Store(true)
	w.write(2, 20)
	r.until("to say what it waits for", func(s report) bool { return strings.Contains(s.Reason, "NOT_ENOUGH_REPLICAS") })
	few.Store(false)
	w.untilPublished()
	if restarts := r.ask().Restarts; restarts == 0 {
		t.Error("no start from the cursor is counted")
	}
	t.Logf("%d events published before", at)
	w.finish()
}

// onBroker has the test read from another broker than the relay's gate leads to.
func (w *world) onBroker(addrs []string) {
	w.broker = &broker{KafkaProcess: &harness.KafkaProcess{KafkaBroker: harness.KafkaBroker{Brokers: slices.Clone(addrs)}}}
	w.admin = kadm.NewClient(w.broker.Client(w.t))
}

// refuseProduce answers every partition of a request with an error.
func refuseProduce(r *kmsg.ProduceRequest, refusal *kerr.Error) kmsg.Response {
	answer := r.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range r.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			partition := kmsg.NewProduceResponseTopicPartition()
			partition.Partition, partition.ErrorCode = p.Partition, refusal.Code
			topic.Partitions = append(topic.Partitions, partition)
		}
		answer.Topics = append(answer.Topics, topic)
	}
	return answer
}
