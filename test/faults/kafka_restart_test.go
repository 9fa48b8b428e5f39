package faults

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/test/harness"
)

// Promises 1 to 3: nothing invented, nothing lost, in order, exactly once - when the broker is stopped in order, when it is killed, and
// when its disk is full: in the middle of a transaction of a relay that is frozen with every record acknowledged, and under a relay
// at work, which never hears how its last commit ended.
func TestPromise3TheBrokerGoesInTheMiddleOfATransaction(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*harness.KafkaProcess, testing.TB){
		"stopped": (*harness.KafkaProcess).Stop, "killed": (*harness.KafkaProcess).Kill, "out of disk": (*harness.KafkaProcess).FillDisk,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "out of disk" && runtime.GOOS != "linux" {
				t.Skip("a full disk is staged on Linux alone")
			}
			b := privateBroker(t)
			if name != "out of disk" { // it ends as one that is killed
				t.Run("a transaction open", func(t *testing.T) { brokerGoes(t, b, end, true) })
			}
			t.Run("at work", func(t *testing.T) { brokerGoes(t, b, end, false) })
		})
	}
}

func brokerGoes(t *testing.T, b *broker, end func(*harness.KafkaProcess, testing.TB), frozen bool) {
	w := newWorld(t, setup{broker: b, outbox: append([]string{"page_size: 20"}, shortTimeouts...)})
	t.Cleanup(w.tellOpenTransactions)
	var env []string
	if frozen {
		env = append(env, freezeAt("produced", 4))
	}
	r := w.start("relay", env...)
	r.until("to lead", leads)
	stop := func() {}
	if frozen {
		w.untilFrozen(r)
	} else {
		stop = w.writing(3, 5*time.Millisecond)
		r.until("to be at work", func(s report) bool { return s.T > 10 })
		time.Sleep(time.Duration(w.rng.Int64N(int64(500 * time.Millisecond)))) // the moment is to be random
		<-w.kafka.wire.arm(true, commits)                                      // nobody hears how it ends
	}
	end(b.KafkaProcess, t)
	w.kafka.wire.disarm()
	if frozen {
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
