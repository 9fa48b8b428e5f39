package consumers_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/test/harness"
)

// A broker that takes a letter and says nothing holds up nobody who wants to end.
func TestASilentBrokerHoldsNoLetterUp(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	p, err := consumers.NewDeadLetterProducer("s", kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	asked, answer := harness.Silence(t, cluster, kmsg.Produce)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	ev := consumers.Event{TopicPartition: consumers.TopicPartition{Topic: "shop.orders"}, Key: "k", Value: []byte("v")}
	go func() { done <- p.Send(ctx, []consumers.DeadLetter{{Event: ev, Class: consumers.LetterPoison}}) }()
	<-asked
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the letter does not come back")
	}
	answer()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
