package consumers_test

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/schemas/avro"
)

// totals sums amounts. Its store is a map; the position stands beside the sums, under the same lock.
type totals struct {
	mu   sync.Mutex // guards the following
	next map[consumers.TopicPartition]int64
	sums map[string]int64
	bad  int
	done func()
}

func (t *totals) Claim(_ context.Context, tp consumers.TopicPartition) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if next, ok := t.next[tp]; ok {
		return next, nil
	}
	return -1, nil // from the beginning
}

func (t *totals) Process(_ context.Context, b consumers.Batch) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ev := range b.Events {
		if ev.Err != nil {
			t.bad++ // or a dead letter: consumers.DeadLetterProducer
			continue
		}
		t.sums[ev.Key] += ev.Fields()["amount"].(int64)
	}
	t.next[b.TopicPartition] = b.Next
	if b.Next >= 4 {
		t.done()
	}
	return nil
}

func (t *totals) Release(context.Context, consumers.TopicPartition) {}

// A consumer of one's own: a store, and the position beside it.
func Example() {
	broker, registry := exampleTopic()
	defer broker.Close()
	ctx, stop := context.WithCancel(context.Background())
	sums := &totals{next: map[consumers.TopicPartition]int64{}, sums: map[string]int64{}, done: stop}
	c, err := consumers.New(consumers.Config{
		Name:     "totals",
		Topics:   []string{"payments"},
		Kafka:    []kgo.Opt{kgo.SeedBrokers(broker.ListenAddrs()...)},
		Registry: registry,
	}, sums)
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Run(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sums.sums, "undecodable:", sums.bad)
	// Output: map[alice:30 bob:5] undecodable: 1
}

// exampleTopic is a topic with three payments and a record that is none.
func exampleTopic() (*kfake.Cluster, consumers.Registry) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "payments"))
	if err != nil {
		log.Fatal(err)
	}
	codec, err := avro.New(texts[idAdded])
	if err != nil {
		log.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.DefaultProduceTopic("payments"))
	if err != nil {
		log.Fatal(err)
	}
	defer cl.Close()
	for _, p := range []struct {
		key    string
		amount int64
	}{{"alice", 10}, {"bob", 5}, {"alice", 20}} {
		value, err := codec.AppendEncode(avro.AppendFrame(nil, idAdded), map[string]any{"amount": p.amount})
		if err != nil {
			log.Fatal(err)
		}
		cl.Produce(context.Background(), &kgo.Record{Key: []byte(p.key), Value: value}, nil)
	}
	cl.Produce(context.Background(), &kgo.Record{Key: []byte("eve"), Value: []byte("nonsense")}, nil)
	if err := cl.Flush(context.Background()); err != nil {
		log.Fatal(err)
	}
	return broker, &testRegistry{}
}
