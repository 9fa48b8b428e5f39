package position_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/stored"
	"github.com/millrace/millrace/consumers/position"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// store keeps states in memory, guarded by their versions, and everything else on the topic.
type store struct {
	*position.Log
	b *backend
}

type backend struct {
	name    string
	brokers []string
	mu      sync.Mutex // guards the following
	states  map[string]map[string]fold.Stored
	epochs  map[consumers.TopicPartition][]int64 // the suite counts claims from 1; here an epoch is a place on the topic
}

func (b *backend) Open(t testing.TB) fold.Sink {
	log := open(t, b.name, b.brokers)
	return &store{log, b}
}

func open(t testing.TB, name string, brokers []string) *position.Log {
	t.Helper()
	log, err := position.New(position.Config{Sink: name, Kafka: []kgo.Opt{kgo.SeedBrokers(brokers...)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

// Offers implements sinktest.Backend.
func (b *backend) Offers() sinktest.Offers { return sinktest.Offers{} }

func (b *backend) Dump(_ testing.TB, entity string) map[string]fold.Stored {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]fold.Stored{}
	for key, s := range b.states[entity] {
		if s.Exists {
			out[key] = s
		}
	}
	return out
}

func (s *store) Load(_ context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	out := map[string]fold.Stored{}
	for _, k := range keys {
		if st, ok := s.b.states[entity][k]; ok {
			out[k] = st
		}
	}
	return out, nil
}

func (s *store) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	c, err := s.Log.Claim(ctx, tp)
	if err != nil {
		return c, err
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.epochs[tp] = append(s.b.epochs[tp], c.Epoch)
	c.Epoch = int64(len(s.b.epochs[tp]))
	return c, nil
}

// place is the epoch that the suite counted.
func (s *store) place(c fold.Commit) int64 {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if n := int64(len(s.b.epochs[c.TopicPartition])); c.Epoch < 1 || c.Epoch > n {
		return -1
	}
	return s.b.epochs[c.TopicPartition][c.Epoch-1]
}

func (s *store) Commit(ctx context.Context, c fold.Commit) error {
	c.Epoch = s.place(c)
	if err := cmp.Or(s.Check(c), ctx.Err()); err != nil {
		return err
	}
	for entity, changes := range c.Changes {
		i := slices.IndexFunc(sinktest.Projections(), func(p fold.Projection) bool { return p.Entity() == entity })
		if i < 0 {
			return consumers.AsSystemic(errors.New("no such entity"))
		}
		for _, ch := range changes {
			if _, err := stored.Encode(sinktest.Projections()[i].Columns(), ch.Stored); err != nil {
				return consumers.AsSystemic(err)
			}
		}
	}
	s.b.mu.Lock()
	for entity, changes := range c.Changes {
		if s.b.states[entity] == nil {
			s.b.states[entity] = map[string]fold.Stored{}
		}
		for _, ch := range changes {
			if have, ok := s.b.states[entity][ch.Key]; !ok || ch.Version > have.Version {
				s.b.states[entity][ch.Key] = ch.Stored
			}
		}
	}
	s.b.mu.Unlock()
	return s.Log.Commit(ctx, c)
}

// TestSuite runs the checks of sinks on a store that keeps no position but on the topic.
func TestSuite(t *testing.T) {
	k := harness.Kafka(t)
	sinktest.Run(t, func(testing.TB) sinktest.Backend {
		return &backend{name: harness.Unique("sink"), brokers: k.Brokers, states: map[string]map[string]fold.Stored{},
			epochs: map[consumers.TopicPartition][]int64{}}
	})
}

var tp = consumers.TopicPartition{Topic: "orders", Partition: 1}

// Promise 4: a slow zombie changes nothing, and is told by its next commit.
func TestAnOwnerThatWasReplacedIsFenced(t *testing.T) {
	t.Parallel()
	k, name := harness.Kafka(t), harness.Unique("sink")
	ctx := t.Context()
	old, young := open(t, name, k.Brokers), open(t, name, k.Brokers)
	a, err := old.Claim(ctx, tp)
	if err != nil || a.Next != -1 {
		t.Fatal(a, err)
	}
	if err := old.Commit(ctx, fold.Commit{TopicPartition: tp, Epoch: a.Epoch, From: -1, Next: 10, Quarantine: map[string]int64{"k": 4}}); err != nil {
		t.Fatal(err)
	}
	b, err := young.Claim(ctx, tp)
	if err != nil || b.Next != 10 || b.Epoch <= a.Epoch || !maps.Equal(b.Quarantined, map[string]int64{"k": 4}) {
		t.Fatalf("%+v, %v", b, err)
	}
	if _, err := old.Positions(ctx); err != nil { // it has read the claim by now
		t.Fatal(err)
	}
	if err := old.Check(fold.Commit{TopicPartition: tp, Epoch: a.Epoch, From: 10, Next: 99}); !errors.Is(err, consumers.ErrFenced) {
		t.Errorf("the former owner is not told before it writes: %v", err)
	}
	if err := old.Commit(ctx, fold.Commit{TopicPartition: tp, Epoch: a.Epoch, From: 10, Next: 99, Lifted: []string{"k"}}); !errors.Is(err, consumers.ErrFenced) {
		t.Errorf("the former owner commits: %v", err)
	}
	if err := young.Commit(ctx, fold.Commit{TopicPartition: tp, Epoch: b.Epoch, From: 9, Next: 20}); !errors.Is(err, consumers.ErrPosition) {
		t.Errorf("a batch from elsewhere: %v", err)
	}
	if err := young.Commit(ctx, fold.Commit{TopicPartition: tp, Epoch: b.Epoch, From: 10, Next: 20}); err != nil {
		t.Fatal(err)
	}
	fresh := open(t, name, k.Brokers)
	at, err := fresh.Positions(ctx)
	if err != nil || at[tp] != 20 {
		t.Errorf("%v, %v", at, err)
	}
	c, err := fresh.Claim(ctx, tp)
	if err != nil || c.Next != 20 || !maps.Equal(c.Quarantined, map[string]int64{"k": 4}) {
		t.Errorf("%+v, %v", c, err)
	}
}

// A topic made by hand, with what Kafka sets by itself, would forget where a quiet partition stands.
func TestATopicThatForgetsIsRefused(t *testing.T) {
	t.Parallel()
	k, name := harness.Kafka(t), harness.Unique("sink")
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(t.Context(), 1, -1, map[string]*string{"cleanup.policy": kadm.StringPtr("delete")}, position.Topic(name)); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, name, k.Brokers).Claim(t.Context(), tp)
	if !errors.Is(err, position.ErrForgets) || consumers.Classify(err) != consumers.Systemic || !strings.Contains(err.Error(), "cleanup.policy=compact") {
		t.Errorf("%v", err)
	}
}

// A broker that takes a record and says nothing holds a commit up for as long as the caller allows, and so a process that wants to end.
func TestASilentBrokerHoldsNobodyUpForLong(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	log, err := position.New(position.Config{Sink: "s", Kafka: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	a, err := log.Claim(t.Context(), tp)
	if err != nil {
		t.Fatal(err)
	}
	asked, answer := harness.Silence(t, cluster, kmsg.Produce)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- log.Commit(ctx, fold.Commit{TopicPartition: tp, Epoch: a.Epoch, From: 0, Next: 10})
	}()
	<-asked
	select {
	case err := <-done:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the commit does not come back")
	}
	answer()
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
