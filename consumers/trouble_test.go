package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// script is a Processor whose parts a test replaces. The zero value takes everything and starts from the beginning.
type script struct {
	claim   func(ctx context.Context, tp consumers.TopicPartition) (int64, error)
	process func(ctx context.Context, b consumers.Batch) error

	mu       sync.Mutex // guards the following
	offsets  []int64    // of the events of batches that were taken, in order
	batches  []consumers.Batch
	claims   int
	released int
	busy     map[consumers.TopicPartition]bool
}

func (s *script) Claim(ctx context.Context, tp consumers.TopicPartition) (int64, error) {
	defer s.enter(tp)()
	s.mu.Lock()
	s.claims++
	s.mu.Unlock()
	if s.claim != nil {
		return s.claim(ctx, tp)
	}
	return -1, nil
}

func (s *script) Process(ctx context.Context, b consumers.Batch) error {
	defer s.enter(b.TopicPartition)()
	if s.process != nil {
		if err := s.process(ctx, b); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, b)
	for _, ev := range b.Events {
		s.offsets = append(s.offsets, ev.Offset)
	}
	return nil
}

func (s *script) Release(_ context.Context, tp consumers.TopicPartition) {
	defer s.enter(tp)()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released++
}

// enter panics if two calls for one partition come at the same time.
func (s *script) enter(tp consumers.TopicPartition) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[tp] {
		panic("two calls at the same time")
	}
	if s.busy == nil {
		s.busy = map[consumers.TopicPartition]bool{}
	}
	s.busy[tp] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy[tp] = false
	}
}

// next is the position after what was taken.
func (s *script) next() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.batches) == 0 {
		return -1
	}
	return s.batches[len(s.batches)-1].Next
}

func (s *script) taken() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int64(nil), s.offsets...)
}

// reach waits until the script has taken batches up to a position.
func reach(t *testing.T, s *script, next int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("position %d", next), func() error {
		if at := s.next(); at < next {
			return fmt.Errorf("at %d", at)
		}
		return nil
	})
}

// plain writes n events without a transaction, so that offsets count events.
func (r *rig) plain(n int) {
	r.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	for range n {
		rec := r.added("k", 1)
		if err := cl.ProduceSync(r.t.Context(), rec).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
	}
}

func upTo(from, to int64) []int64 {
	var all []int64
	for o := from; o < to; o++ {
		all = append(all, o)
	}
	return all
}

// A transient error holds the partition: the same batch comes again, and one line a change of state is logged.
func TestTransientErrorHoldsThePartition(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 1)
	log := &logged{}
	cfg := r.config()
	cfg.Logger = log.logger()
	var attempts atomic.Int64
	var away atomic.Bool
	away.Store(true)
	var first consumers.Batch
	s := &script{process: func(_ context.Context, b consumers.Batch) error {
		if attempts.Add(1) == 1 {
			first = b
		}
		if b.From != first.From || b.Next != first.Next {
			return consumers.AsSystemic(fmt.Errorf("batch %d..%d after %d..%d failed", b.From, b.Next, first.From, first.Next))
		}
		if away.Load() {
			return errors.New("the sink is away")
		}
		return nil
	}}
	r.plain(5)
	c := start(t, cfg, s)
	eventually(t, "attempts", func() error {
		if n := attempts.Load(); n < 5 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	if err := c.Health(); err == nil || !strings.Contains(err.Error(), "the sink is away") {
		t.Errorf("health is %v", err)
	}
	if st := c.Status(); len(st.Partitions) != 1 || st.Partitions[0].State != consumers.Waiting || st.Problem == "" {
		t.Errorf("status is %+v", st)
	}
	if n := log.count("the sink is away"); n != 1 {
		t.Errorf("%d lines for one change of state:\n%s", n, log)
	}
	away.Store(false)
	reach(t, s, 5)
	eventually(t, "health", c.Health)
	if n := log.count("no longer waiting for sink"); n != 1 {
		t.Errorf("%d lines for the end of it:\n%s", n, log)
	}
	if err := c.end(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if got := s.taken(); fmt.Sprint(got) != fmt.Sprint(upTo(0, 5)) {
		t.Errorf("taken %v", got)
	}
}

// A systemic error stops the sink, and Run says why.
func TestSystemicErrorStops(t *testing.T) {
	errFull := errors.New("disk full")
	for name, s := range map[string]*script{
		"process": {process: func(context.Context, consumers.Batch) error { return consumers.AsSystemic(errFull) }},
		"claim": {claim: func(context.Context, consumers.TopicPartition) (int64, error) {
			return 0, consumers.AsSystemic(errFull)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			r := fakeRig(t, 2)
			r.fill(10, 3)
			c := start(t, r.config(), s)
			if err := c.wait(); !errors.Is(err, errFull) || consumers.Classify(err) != consumers.Systemic {
				t.Errorf("Run returned %v", err)
			}
			if err := c.Health(); err == nil {
				t.Error("a stopped sink is healthy")
			}
			if len(s.taken()) != 0 {
				t.Errorf("taken %v", s.taken())
			}
		})
	}
}

// The sink decides where to go on, whatever was read: ahead, back, or from the very beginning.
func TestPositionComesFromTheSink(t *testing.T) {
	for name, c := range map[string]struct {
		at   int64
		want []int64
	}{
		"ahead":         {7, append(upTo(0, 3), upTo(7, 10)...)},
		"back":          {1, append(upTo(0, 3), upTo(1, 10)...)},
		"the beginning": {-1, append(upTo(0, 3), upTo(0, 10)...)},
		"the same":      {3, upTo(0, 10)},
	} {
		for _, refusal := range []error{consumers.ErrPosition, consumers.ErrFenced} {
			t.Run(name+"/"+refusal.Error(), func(t *testing.T) {
				noLeaks(t)
				r := fakeRig(t, 1)
				r.plain(10)
				var refused atomic.Bool
				s := &script{}
				s.claim = func(context.Context, consumers.TopicPartition) (int64, error) {
					if refused.Load() {
						return c.at, nil
					}
					return -1, nil
				}
				s.process = func(_ context.Context, b consumers.Batch) error {
					if b.From == 3 && refused.CompareAndSwap(false, true) {
						return fmt.Errorf("commit: %w", refusal)
					}
					return nil
				}
				cfg := r.config()
				cfg.BatchEvents = 3
				run := start(t, cfg, s)
				reach(t, s, 10)
				if err := run.end(); err != nil {
					t.Fatalf("Run: %v", err)
				}
				if got := s.taken(); fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("taken %v, want %v", got, c.want)
				}
				if s.claims != 2 || s.released != 1 {
					t.Errorf("%d claims, %d released", s.claims, s.released)
				}
			})
		}
	}
}

// Somebody else claims the partition in the sink: the owner by the group takes it back, and nothing is applied twice.
func TestFencedOwnerClaimsAnew(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		r.fill(500, 20)
		start(t, r.config(), r.fold())
		tp := consumers.TopicPartition{Topic: r.topic}
		for range 5 {
			if _, err := r.sink.Claim(t.Context(), tp); err != nil {
				t.Fatal(err)
			}
			r.fill(500, 20)
			r.caughtUp()
		}
		r.wantSums()
	})
}

// An offset that the topic no longer has stops the sink with an explanation. Nothing is skipped.
func TestOffsetGone(t *testing.T) {
	for name, at := range map[string]int64{"deleted by retention": 2, "beyond the end": 50} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			r := fakeRig(t, 1)
			r.plain(10)
			if err := r.fake.DeleteRecords(r.topic, 0, 5); err != nil {
				t.Fatal(err)
			}
			s := &script{claim: func(context.Context, consumers.TopicPartition) (int64, error) { return at, nil }}
			err := start(t, r.config(), s).wait()
			if !errors.Is(err, consumers.ErrOffsetGone) || consumers.Classify(err) != consumers.Systemic {
				t.Fatalf("Run returned %v", err)
			}
			if want := fmt.Sprintf("the position is %d, the topic holds 5 up to 10", at); !strings.Contains(err.Error(), want) {
				t.Errorf("the error %q does not say %q", err, want)
			}
			if len(s.taken()) > 0 {
				t.Errorf("taken %v", s.taken())
			}
		})
	}
}

// A registry that is away is waited for: nothing is taken for poison.
func TestRegistryAway(t *testing.T) {
	onBrokers(t, 2, func(t *testing.T, r *rig) {
		log := &logged{}
		cfg := r.config()
		cfg.Logger = log.logger()
		r.registry.away.Store(true)
		r.fill(300, 10)
		c := start(t, cfg, r.fold())
		eventually(t, "the registry in Health", func() error {
			if err := c.Health(); err == nil || !strings.Contains(err.Error(), "schema registry") {
				return fmt.Errorf("health %v", err)
			}
			return nil
		})
		calls := r.registry.calls.Load()
		eventually(t, "further attempts", func() error {
			if n := r.registry.calls.Load(); n < calls+5 {
				return fmt.Errorf("%d calls", n)
			}
			return nil
		})
		if n := log.count("waiting for schema registry"); n != 1 {
			t.Errorf("%d lines for one change of state:\n%s", n, log)
		}
		r.registry.away.Store(false)
		r.caughtUp()
		r.wantSums()
		eventually(t, "health", c.Health)
		if topics, err := r.adm.ListTopics(t.Context(), consumers.DeadLetterTopic(r.name)); err != nil || topics.Has(consumers.DeadLetterTopic(r.name)) {
			t.Errorf("there are dead letters: %v %v", topics, err)
		}
	})
}

// A slow sink pauses fetching: memory stays bounded, the partition stays owned, and nothing is lost.
func TestSlowSinkPausesFetching(t *testing.T) {
	onBrokers(t, 1, slowSinkPausesFetching)
}

func slowSinkPausesFetching(t *testing.T, r *rig) {
	value := strings.Repeat("x", 2000)
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.ProducerBatchMaxBytes(20_000))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	const n = 20_000
	for range n {
		rec := r.added("k", 1)
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "padding", Value: []byte(value)})
		cl.Produce(t.Context(), rec, nil)
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	s := &script{process: func(ctx context.Context, _ consumers.Batch) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	cfg := r.config()
	cfg.BatchEvents, cfg.LaneRecords, cfg.LaneBytes = 100, 1000, 1<<20
	c := start(t, cfg, s)
	// The lane holds what it may and one poll more; looking long enough shows that it stays so.
	most := 0
	for range 100 {
		if st := c.Status(); len(st.Partitions) == 1 {
			most = max(most, st.Partitions[0].Buffered)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if most == 0 || most > 1000+5000 {
		t.Errorf("the lane held %d records", most)
	}
	close(gate)
	reach(t, s, n)
	if err := c.end(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if got := s.taken(); len(got) != n || fmt.Sprint(got) != fmt.Sprint(upTo(0, n)) {
		t.Errorf("%d events were taken, want %d in order", len(got), n)
	}
	if s.claims != 1 {
		t.Errorf("the partition was claimed %d times: it moved", s.claims)
	}
}

// Stopping lets the batch in hand finish, and cancels it when the time is up.
func TestStop(t *testing.T) {
	for name, slow := range map[string]bool{"finishes": false, "is cancelled": true} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			r := fakeRig(t, 1)
			r.plain(10)
			inHand, finish := make(chan struct{}), make(chan struct{})
			s := &script{process: func(ctx context.Context, _ consumers.Batch) error {
				close(inHand)
				select {
				case <-finish:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}}
			cfg := r.config()
			cfg.BatchEvents, cfg.StopTimeout = 5, 20*time.Second
			if slow {
				cfg.StopTimeout = 50 * time.Millisecond
			}
			c := start(t, cfg, s)
			<-inHand
			c.stop()
			want := []int64(nil)
			if !slow {
				eventually(t, "the stop to begin", func() error {
					if err := c.Health(); err == nil || !strings.Contains(err.Error(), "stopped") {
						return fmt.Errorf("health %v", err)
					}
					return nil
				})
				close(finish)
				want = upTo(0, 5)
			}
			if err := c.wait(); err != nil {
				t.Errorf("Run: %v", err)
			}
			if got := s.taken(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("taken %v, want %v", got, want)
			}
			if s.released != 1 {
				t.Errorf("released %d times", s.released)
			}
		})
	}
}

// closing is a Processor that is an io.Closer.
type closing struct {
	script
	closed atomic.Int64
}

func (c *closing) Close() error { c.closed.Add(1); return nil }

func TestProcessorIsClosed(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 1)
	r.plain(1)
	p := &closing{}
	c := start(t, r.config(), p)
	reach(t, &p.script, 1)
	if err := c.end(); err != nil || p.closed.Load() != 1 {
		t.Errorf("closed %d times, %v", p.closed.Load(), err)
	}
}

func TestBatchLimits(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 1)
	r.plain(100)
	for name, c := range map[string]struct {
		change func(*consumers.Config)
		most   int
	}{
		"events": {func(c *consumers.Config) { c.BatchEvents = 7 }, 7},
		"bytes":  {func(c *consumers.Config) { c.BatchBytes = 1000 }, 4},
		"one":    {func(c *consumers.Config) { c.BatchBytes = 1 }, 1},
		"linger": {func(c *consumers.Config) { c.BatchEvents, c.Linger = 25, 10*time.Second }, 25},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{}
			cfg := r.config()
			cfg.Name += name
			c.change(&cfg)
			run := start(t, cfg, s)
			reach(t, s, 100)
			if err := run.end(); err != nil {
				t.Fatal(err)
			}
			for i, b := range s.batches {
				if len(b.Events) > c.most || len(b.Events) == 0 {
					t.Errorf("batch %d has %d events", i, len(b.Events))
				}
				if c.change != nil && name == "linger" && len(b.Events) != 25 {
					t.Errorf("batch %d did not linger: %d events", i, len(b.Events))
				}
				if i > 0 && b.From != s.batches[i-1].Next {
					t.Errorf("batch %d is from %d, the last went to %d", i, b.From, s.batches[i-1].Next)
				}
			}
		})
	}
}

// Promise 4: a topic that was deleted and made again is another one, though the sink's position is within it: nothing is applied over what came from the former. Stopped meanwhile or
// not, the sink notices.
func TestATopicThatIsMadeAgainIsAnotherOne(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("running %v", running), func(t *testing.T) {
			onBrokers(t, 1, func(t *testing.T, r *rig) {
				r.fill(50, 5)
				run := start(t, r.config(), r.fold())
				r.caughtUp()
				if !running {
					if err := run.end(); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := r.adm.DeleteTopic(t.Context(), r.topic); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the topic to be made again", func() error {
					_, err := r.adm.CreateTopic(t.Context(), 1, 1, nil, r.topic)
					return err
				})
				before := r.sink.States("counter")
				if !running {
					r.connect()
					r.fill(200, 5)
					run = start(t, r.config(), r.fold())
				}
				err := run.wait()
				if !errors.Is(err, consumers.ErrTopicChanged) || consumers.Classify(err) != consumers.Systemic {
					t.Fatalf("Run returned %v", err)
				}
				if after := r.sink.States("counter"); len(before) == 0 || fmt.Sprint(before) != fmt.Sprint(after) {
					t.Errorf("it held\n%v\nand holds\n%v", before, after)
				}
			})
		})
	}
}
