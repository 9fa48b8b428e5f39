package rebuild

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// Promise 4: a leader that was replaced, however late it wakes up, writes nothing.
func TestAFormerLeaderWritesNothing(t *testing.T) {
	kafka := []kgo.Opt{kgo.SeedBrokers(harness.Kafka(t).Brokers...)}
	t.Parallel()
	ctx, sink := limited(t), harness.Unique("led")
	var terms []*Term
	for range 2 {
		l := NewLog(LogConfig{Sink: sink, Kafka: kafka})
		terms = append(terms, leading(t, ctx, l))
	}
	if err := terms[0].Write(ctx, sound()); !errors.Is(err, ErrDeposed) {
		t.Errorf("the former leader: %v", err)
	}
	rec := sound()
	if err := terms[1].Write(ctx, rec, Answer{ID: "q", OK: true}); err != nil {
		t.Fatal(err)
	}
	for _, term := range terms {
		if got, err := term.log.Sync(ctx); err != nil || got.Newest != 2 {
			t.Errorf("%+v %v", got, err)
		}
	}
	rec.Rebuild.Progress.Events = 77
	if err := terms[1].tell(ctx, rec.Rebuild); err != nil {
		t.Fatal(err)
	}
	if got, err := Open(sink, kafka...).Read(ctx); err != nil || got.Rebuild.Progress.Events != 77 {
		t.Errorf("%+v %v", got.Rebuild, err)
	}
}

// Promise 8: a consumer asks whether it may go on after the store has taken its claim, and not before: a swap that is recorded and then fences the store misses nobody.
func TestAClaimIsAskedAboutWhenItIsMade(t *testing.T) {
	m := sinktest.NewMemory(sinktest.Projections()...)
	tp := consumers.TopicPartition{Topic: sinktest.Projections()[0].Topic()}
	f, err := fold.New(fold.Config{Sink: m, Projections: sinktest.Projections(), DeadLetters: &letters{}})
	if err != nil {
		t.Fatal(err)
	}
	swapped := errors.New("swapped")
	g := &gate{f, &Feed{cfg: FeedConfig{Generation: 1, Allowed: func(ctx context.Context) error {
		c, err := m.Claim(ctx, tp)
		if err == nil && c.Epoch != 2 {
			t.Errorf("asked at epoch %d: before the claim", c.Epoch)
		}
		return swapped
	}}}}
	if _, err := g.Claim(t.Context(), tp); !errors.Is(err, swapped) {
		t.Error(err)
	}
}

func TestAPaceKeepsToItsRateAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		ctx, cancel := context.WithCancel(t.Context())
		p.until(ctx)
		p.set(100, "")
		began := time.Now()
		for range 11 {
			if err := p.wait(t.Context(), 50); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("500 events at 100 a second took %v", took)
		}
		p.set(100, "paused")
		waited := make(chan error, 1)
		go func() { waited <- p.wait(t.Context(), 1) }()
		synctest.Wait()
		if why := p.throttled(); why != "paused" {
			t.Errorf("throttled by %q", why)
		}
		p.free()
		if err := <-waited; err != nil {
			t.Error(err)
		}
		p.set(0, "paused")
		go func() { waited <- p.wait(t.Context(), 1) }()
		synctest.Wait()
		cancel() // the feed stops: nobody waits for its pace
		if err := <-waited; !errors.Is(err, errStopping) {
			t.Error(err)
		}
	})
}

func TestALagIsTheAgeOfTheFirstOffsetThatIsMissing(t *testing.T) {
	l, now := newLagging(), time.Unix(100, 0)
	look := func(position, end int64) time.Duration {
		now = now.Add(time.Second)
		d, events := l.look(now, []consumers.Lag{{TopicPartition: consumers.TopicPartition{Topic: "t"}, Position: position, End: end, Lag: end - position}})
		if events != end-position {
			t.Errorf("%d events", events)
		}
		return d
	}
	for i, c := range []struct {
		position, end int64
		want          time.Duration
	}{{10, 10, 0}, {10, 20, 0}, {10, 30, time.Second}, {20, 30, time.Second}, {20, 40, 2 * time.Second}, {40, 40, 0}} {
		if got := look(c.position, c.end); got != c.want {
			t.Errorf("look %d: %v, want %v", i, got, c.want)
		}
	}
}

func TestALogThatDoesNotReachBackNeedsSomebodyWhoKeeps(t *testing.T) {
	tp := consumers.TopicPartition{Topic: "orders", Partition: 3}
	if err := errors.Join(reaches(tp, 0, -1, false), reaches(tp, 50, 50, true)); err != nil {
		t.Error(err)
	}
	if err := reaches(tp, 50, 90, false); err == nil || !strings.Contains(err.Error(), "--from TIME") {
		t.Error(err)
	}
	if err := reaches(tp, 50, 49, true); err == nil || consumers.Classify(err) != consumers.Systemic {
		t.Errorf("a hole: %v", err)
	}
}

// leading follows a log, and begins a term on it.
func leading(t *testing.T, ctx context.Context, l *Log) *Term {
	t.Helper()
	running, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); l.Run(running) }()
	t.Cleanup(func() { stop(); <-done })
	if err := l.Ensure(ctx); err != nil {
		t.Fatal(err)
	}
	term, err := l.newTerm(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(term.cl.Close)
	return term
}
