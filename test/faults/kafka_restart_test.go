package faults

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/test/harness"
)

// Promises 1 to 3: nothing invented, nothing lost, in order, exactly once - when the broker is stopped in order, and when it is
// killed, in the middle of a transaction of a relay that is frozen with every record acknowledged, and under a relay at work.
func TestPromise3TheBrokerGoesInTheMiddleOfATransaction(t *testing.T) {
	t.Parallel()
	b := privateBroker(t)
	for _, c := range []struct {
		name   string
		end    func(*harness.KafkaProcess)
		frozen bool
	}{
		{"stopped, a transaction open", func(k *harness.KafkaProcess) { k.Stop(t) }, true},
		{"killed, a transaction open", func(k *harness.KafkaProcess) { k.Kill(t) }, true},
		{"stopped at work", func(k *harness.KafkaProcess) { k.Stop(t) }, false},
		{"killed at work", func(k *harness.KafkaProcess) { k.Kill(t) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, setup{broker: b, outbox: append([]string{"page_size: 20"}, shortTimeouts...)})
			t.Cleanup(w.tellOpenTransactions)
			var env []string
			if c.frozen {
				env = append(env, freezeAt("produced", 4))
			}
			r := w.start("relay", env...)
			r.until("to lead", leads)
			stop := func() {}
			if c.frozen {
				w.untilFrozen(r)
			} else {
				stop = w.writing(3, 5*time.Millisecond)
				r.until("to be at work", func(s report) bool { return s.T > 10 })
				time.Sleep(time.Duration(w.rng.Int64N(int64(500 * time.Millisecond)))) // the moment is to be random
			}
			c.end(b.KafkaProcess)
			if c.frozen {
				r.process.Thaw(t)
			}
			r.until("to notice", func(s report) bool { return s.Reason != "" })
			b.Start(t)
			began := time.Now()
			w.emit("k")
			r.until("to publish again", published(w.log.events()))
			t.Logf("publishes %v after the broker's start", time.Since(began).Round(10*time.Millisecond))
			stop()
			w.finish()
		})
	}
}

// tellOpenTransactions logs, for a test that failed, which producers the partitions hold a transaction open for, and what the
// coordinator says of the outbox's own.
func (w *world) tellOpenTransactions() {
	if !w.t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var topics kadm.TopicsSet
	topics.Add(w.topic)
	for _, topic := range w.internal() {
		topics.Add(topic)
	}
	producers, err := w.admin.DescribeProducers(ctx, topics)
	if err != nil {
		w.t.Log(err)
	}
	producers.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset >= 0 {
			w.t.Logf("open: %+v", p)
		}
	})
	known, err := w.admin.DescribeTransactions(ctx, "millrace."+w.name+".0", "millrace."+w.name+".1")
	if err != nil {
		w.t.Log(err)
	}
	known.Each(func(d kadm.DescribedTransaction) { w.t.Logf("the coordinator: %+v", d) })
}
