package rebuild

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// nobody is a host that runs nothing.
type nobody struct{ Host }

func (nobody) Running(int) (Generation, bool) { return Generation{}, false }

// Promise 8: a leader that cannot tell what became of a write writes nothing more on top of the record that it has, which may be old: a swap that was recorded would be taken back, and readers
// would step back with it. Its term ends.
func TestPromise8_AWriteOfUnknownOutcomeEndsTheTerm(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	ctx, kafka := limited(t), []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}
	l := NewLog(LogConfig{Sink: "warehouse", Kafka: kafka})
	term := leading(t, ctx, l)
	rec := sound()
	rec.Rebuild.State = Planned
	if err := term.Write(ctx, rec); err != nil {
		t.Fatal(err)
	}
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		return refuse(r.(*kmsg.ProduceRequest)), nil, true // once
	})
	j := &Job{cfg: JobConfig{Host: nobody{}, Sink: "warehouse", Kafka: kafka}, term: term, log: slog.New(slog.DiscardHandler)}
	if err := j.tick(ctx); !errors.Is(err, errUnsure) {
		t.Errorf("the term goes on after a write that has failed: %v", err)
	}
	got, err := Open("warehouse", kafka...).Read(ctx)
	if err != nil || got.Rebuild.State != Planned || got.Rebuild.Reason != "" {
		t.Errorf("written on top of what is not known: %+v %v", got.Rebuild, err)
	}
}

// refuse answers that nothing was written.
func refuse(r *kmsg.ProduceRequest) *kmsg.ProduceResponse {
	out := r.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range r.Topics {
		t := kmsg.NewProduceResponseTopic()
		t.Topic, t.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			answer := kmsg.NewProduceResponseTopicPartition()
			answer.Partition, answer.ErrorCode = p.Partition, kerr.InvalidRecord.Code
			t.Partitions = append(t.Partitions, answer)
		}
		out.Topics = append(out.Topics, t)
	}
	return out
}

// Promise 8: two leaders never write. A broker whose coordinator is away for a moment has transactions, and a leader waits for them; it does not write without, for nothing would keep
// a former one from writing when the coordinator is back.
func TestALeaderWithoutItsCoordinatorWaits(t *testing.T) {
	for _, err := range []error{kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, context.DeadlineExceeded} {
		if withoutTransactions(fmt.Errorf("take the id: %w", err)) {
			t.Errorf("%v: taken for a broker that has none", err)
		}
	}
	if !withoutTransactions(kerr.UnsupportedVersion) {
		t.Error("a broker without transactions is not known")
	}
}

// What the metrics show of a rebuild is the leader's to tell: one that leads no more shows none, or an alert would never end.
func TestAFormerLeaderShowsNoRebuild(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry(), "warehouse")
	j := &Job{cfg: JobConfig{Metrics: m}}
	m.show(&Rebuild{ID: "r", State: Refused, Progress: Progress{Events: 1, Total: 9, Throttled: "rate"}})
	shown := func() []float64 {
		return []float64{testutil.ToFloat64(m.state.WithLabelValues(string(Refused))), testutil.ToFloat64(m.remaining), testutil.ToFloat64(m.throttled)}
	}
	if got := shown(); !slices.Equal(got, []float64{1, 8, 1}) {
		t.Fatal(got)
	}
	j.end()
	if got := shown(); !slices.Equal(got, []float64{0, 0, 0}) {
		t.Error(got)
	}
}
