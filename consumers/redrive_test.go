package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/sinktest"
)

// mendable is a counter that somebody mends: an amount of 13 can be folded from then on, one of 14 never.
type mendable struct {
	counter
	mended *atomic.Bool
}

var errFourteen = errors.New("fourteen")

func (m mendable) Fold(prev projection.State, ev *consumers.Event) (projection.State, error) {
	sum, applied := int64(0), []any(nil)
	if prev.Exists {
		sum, applied = prev.Values[0].(int64), prev.Values[1].([]any)
	}
	amount := ev.Fields()["amount"].(int64)
	if amount == 13 && !m.mended.Load() {
		return projection.State{}, errThirteen
	}
	if amount == 14 {
		return projection.State{}, errFourteen
	}
	return projection.State{Exists: true, Values: []any{sum + amount, append(applied[:len(applied):len(applied)], ev.Seq)}}, nil
}

// clinic is a rig whose projection can be mended, with the desk of its dead letters.
type clinic struct {
	*rig
	mended atomic.Bool
	desk   *dlq.Desk
}

func newClinic(r *rig) *clinic {
	h := &clinic{rig: r, desk: dlq.New(r.name, kgo.SeedBrokers(r.brokers...))}
	r.sink = sinktest.NewMemory(counter{r.topic})
	return h
}

// foldInto is a Processor whose projection is the one that is mended.
func (h *clinic) foldInto(sink fold.Sink) *fold.Fold {
	h.t.Helper()
	letters, err := consumers.NewDeadLetterProducer(h.name, kgo.SeedBrokers(h.brokers...))
	if err != nil {
		h.t.Fatal(err)
	}
	f, err := fold.New(fold.Config{Name: h.name, Sink: sink, Projections: []fold.Projection{mendable{counter{h.topic}, &h.mended}}, DeadLetters: letters})
	if err != nil {
		h.t.Fatal(err)
	}
	return f
}

func (h *clinic) start(cfg consumers.Config) *running {
	return start(h.t, cfg, h.foldInto(h.sink))
}

// add writes events that count in the end.
func (h *clinic) add(key string, amounts ...int64) {
	h.t.Helper()
	var records []*kgo.Record
	for _, a := range amounts {
		records = append(records, h.added(key, a))
		h.sums[key] += a
	}
	h.produce(true, records...)
}

// lose writes an event that does not count in the end.
func (h *clinic) lose(key string, amount int64) {
	h.t.Helper()
	h.produce(true, h.added(key, amount))
}

// pending returns the quarantined keys as the desk sees them.
func (h *clinic) pending() []dlq.Key {
	h.t.Helper()
	keys, err := h.desk.Keys(h.t.Context(), dlq.Filter{})
	if err != nil {
		h.t.Fatalf("keys: %v", err)
	}
	return keys
}

func (h *clinic) key(name string) dlq.Key {
	h.t.Helper()
	for _, k := range h.pending() {
		if k.Key == name {
			return k
		}
	}
	h.t.Fatalf("%s has no pending letter", name)
	return dlq.Key{}
}

// ask asks and waits for the answers.
func (h *clinic) ask(requests ...consumers.Request) []*consumers.Answer {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 60*time.Second)
	defer cancel()
	if err := h.desk.Ask(ctx, requests...); err != nil {
		h.t.Fatalf("ask: %v", err)
	}
	answers, err := h.desk.Wait(ctx, requests, nil)
	if err != nil {
		h.t.Fatalf("wait for answers: %v", err)
	}
	return answers
}

// all asks for something about every pending key.
func (h *clinic) all(drop consumers.Drop) []*consumers.Answer {
	h.t.Helper()
	var requests []consumers.Request
	for _, k := range h.pending() {
		requests = append(requests, k.Request(drop))
	}
	return h.ask(requests...)
}

// wantOutcome fails the test if an answer is another.
func wantOutcome(t *testing.T, a *consumers.Answer, outcome consumers.Outcome, applied, dropped int64) {
	t.Helper()
	if a.Outcome != outcome || a.Applied != applied || a.Dropped != dropped {
		t.Errorf("key %q: %s, %d applied, %d dropped (%s), want %s, %d, %d", a.Key, a.Outcome, a.Applied, a.Dropped, a.Detail, outcome, applied, dropped)
	}
}

// settled fails the test unless the sink holds what it is to hold, each event once, and no key is quarantined.
func (h *clinic) settled() {
	h.t.Helper()
	h.caughtUp()
	h.wantSums()
	if keys := h.pending(); len(keys) != 0 {
		h.t.Errorf("pending are %+v", keys)
	}
	h.wantEventsOnce()
	for p := range int32(len(h.partitions())) {
		c, err := h.sink.Claim(h.t.Context(), consumers.TopicPartition{Topic: h.topic, Partition: p})
		delete(c.Quarantined, "") // which topic it is
		if err != nil || len(c.Quarantined) != 0 {
			h.t.Errorf("partition %d: quarantined are %v (%v)", p, c.Quarantined, err)
		}
	}
}

func (h *clinic) partitions() map[int32]bool {
	all := map[int32]bool{}
	positions, err := h.sink.Positions(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for tp := range positions {
		all[tp.Partition] = true
	}
	return all
}

// wantEventsOnce fails the test if the sink keeps an event twice.
func (h *clinic) wantEventsOnce() {
	h.t.Helper()
	seen := map[string]bool{}
	for _, e := range h.sink.Events(h.topic) {
		if id := fmt.Sprint(e.Partition, "/", e.Offset); seen[id] {
			h.t.Errorf("event %s is kept twice", id)
		} else {
			seen[id] = true
		}
	}
}

// Promise 7: a bad event is parked with its key's later events behind it, in order, visible, and can be released. Promise 4: each event has its
// effect once, in key order.
func TestRedriveAfterTheProjectionWasMended(t *testing.T) {
	onBrokers(t, 2, func(t *testing.T, r *rig) {
		h := newClinic(r)
		h.add("a", 1, 2)
		h.add("b", 1)
		h.add("a", 13, 4, 5)
		h.add("b", 13)
		h.add("c", 7)
		h.start(h.config())
		h.caughtUp()
		if k := h.key("a"); k.Letters != 3 || k.Reason == "" || k.To != k.From+3 {
			t.Errorf("a is pending as %+v", k)
		}
		// Still bad: nothing changes, and the answer says why.
		for _, a := range h.all(consumers.DropNothing) {
			wantOutcome(t, a, consumers.Stuck, 0, 0)
			if a.Detail == "" {
				t.Error("the answer does not say why")
			}
		}
		h.mended.Store(true)
		h.add("a", 6) // it waits behind the others
		h.caughtUp()
		for _, a := range h.all(consumers.DropNothing) {
			wantOutcome(t, a, consumers.Done, map[string]int64{"a": 4, "b": 1}[a.Key], 0)
		}
		h.add("a", 1)
		h.add("b", 2)
		h.settled()
	})
}

// What is discarded is dropped, and nothing else is: what stands behind it is applied.
func TestDiscard(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		h := newClinic(r)
		for _, key := range []string{"first", "poison", "all"} {
			h.add(key, 1)
			h.lose(key, 14)
		}
		h.add("first", 2, 3)
		h.add("poison", 2)
		h.lose("poison", 14)
		h.add("poison", 3)
		h.lose("all", 2)
		h.lose("all", 3)
		h.produce(true, &kgo.Record{Topic: h.topic, Value: []byte("no key, no frame")})
		h.start(h.config())
		h.caughtUp()
		keys := map[string]dlq.Key{}
		for _, k := range h.pending() {
			keys[k.Key] = k
		}
		if len(keys) != 4 {
			t.Fatalf("pending are %v", keys)
		}
		h.add("all", 9) // came after somebody looked: it is not dropped
		h.caughtUp()
		wantOutcome(t, h.ask(keys["first"].Request(consumers.DropFirst))[0], consumers.Done, 2, 1)
		wantOutcome(t, h.ask(keys["poison"].Request(consumers.DropPoison))[0], consumers.Done, 2, 2)
		wantOutcome(t, h.ask(keys["all"].Request(consumers.DropAll))[0], consumers.Done, 1, 3)
		wantOutcome(t, h.ask(keys[""].Request(consumers.DropNothing))[0], consumers.Failed, 0, 0)
		wantOutcome(t, h.ask(keys[""].Request(consumers.DropAll))[0], consumers.Done, 0, 1)
		h.settled()
	})
}

// A redrive that meets another bad event applies what stands before it. The key stays quarantined from there on.
func TestRedriveStopsAtTheNextBadEvent(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		h := newClinic(r)
		h.add("a", 1)
		h.lose("a", 14)
		h.add("a", 2, 3)
		h.lose("a", 14)
		h.add("a", 4)
		h.start(h.config())
		h.caughtUp()
		first := h.key("a")
		wantOutcome(t, h.ask(first.Request(consumers.DropFirst))[0], consumers.Stuck, 2, 1)
		second := h.key("a")
		if second.From <= first.From || second.Letters != 2 || second.Reason == first.Reason {
			t.Errorf("after it was stuck a is pending as %+v, before as %+v", second, first)
		}
		// The same request once more drops nothing that it did not mean.
		wantOutcome(t, h.ask(first.Request(consumers.DropFirst))[0], consumers.Stuck, 0, 0)
		h.add("a", 5)
		wantOutcome(t, h.ask(second.Request(consumers.DropFirst))[0], consumers.Done, 2, 1)
		h.settled()
	})
}

// Events of the key that keep coming neither overtake nor get lost.
func TestRedriveWhileEventsKeepComing(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		h := newClinic(r)
		cfg := h.config()
		cfg.BatchEvents = 7
		h.add("a", 13)
		for i := range int64(60) {
			h.add("a", i%5)
		}
		h.start(cfg)
		h.caughtUp()
		h.mended.Store(true)
		request := h.key("a").Request(consumers.DropNothing)
		if err := h.desk.Ask(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		for i := range int64(100) {
			h.add("a", i%5)
		}
		answers, err := h.desk.Wait(t.Context(), []consumers.Request{request}, nil)
		if err != nil || answers[0].Outcome != consumers.Done || answers[0].Applied < 61 {
			t.Errorf("answer %+v, %v", answers[0], err)
		}
		h.settled()
	})
}

// A request waits for a sink that does not run. Two requests for one key do not meet.
func TestRequestsWaitForTheSink(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		h := newClinic(r)
		h.add("a", 13, 2)
		c := h.start(h.config())
		h.caughtUp()
		if err := c.end(); err != nil {
			t.Fatal(err)
		}
		k := h.key("a")
		requests := []consumers.Request{k.Request(consumers.DropNothing), k.Request(consumers.DropAll)}
		if err := h.desk.Ask(t.Context(), requests...); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := h.desk.Wait(short, requests, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait: %v", err)
		}
		if k := h.key("a"); !k.Asked {
			t.Error("it cannot be seen that somebody asked")
		}
		h.mended.Store(true)
		h.start(h.config())
		answers, err := h.desk.Wait(t.Context(), requests, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantOutcome(t, answers[0], consumers.Done, 2, 0)
		wantOutcome(t, answers[1], consumers.Nothing, 0, 0)
		h.settled()
	})
}

// stubborn is a sink whose commits that lift a mark go wrong as a test wants it.
type stubborn struct {
	fold.Sink
	commit func(ctx context.Context, c fold.Commit) error
}

func (s *stubborn) Commit(ctx context.Context, c fold.Commit) error {
	if len(c.Lifted) > 0 {
		return s.commit(ctx, c)
	}
	return s.Sink.Commit(ctx, c)
}

// Promise 4: an answer of the store that got lost is not a reason to apply anything twice.
func TestRedriveWithALostAnswer(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		h := newClinic(r)
		h.add("a", 13, 2, 3, 4, 5, 6, 7, 8)
		cfg := h.config()
		cfg.BatchEvents = 2
		var n atomic.Int64
		sink := &stubborn{Sink: h.sink}
		sink.commit = func(ctx context.Context, c fold.Commit) error {
			switch n.Add(1) {
			case 2:
				return errors.New("connection refused")
			case 3, 5:
				return errors.Join(sink.Sink.Commit(ctx, c), errors.New("connection reset"))
			}
			return sink.Sink.Commit(ctx, c)
		}
		start(t, cfg, h.foldInto(sink))
		h.caughtUp()
		h.mended.Store(true)
		if a := h.all(consumers.DropNothing)[0]; a.Outcome != consumers.Done && a.Outcome != consumers.Nothing {
			t.Errorf("answer %+v", a)
		}
		h.add("a", 9)
		h.settled()
		if n.Load() < 5 {
			t.Errorf("%d commits", n.Load())
		}
	})
}

// Promise 4: a takeover in the middle of a redrive, and the old owner wakes up afterwards.
func TestTakeoverWithinARedrive(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		h := newClinic(r)
		h.add("a", 13, 2, 3, 4, 5, 6)
		wire := &cable{}
		cfg := h.config()
		cfg.SessionTimeout, cfg.BatchEvents = 6*time.Second, 2
		cutoff := cfg
		cutoff.Kafka = append([]kgo.Opt{kgo.Dialer(wire.dial)}, cfg.Kafka...)
		held, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		var n, refused atomic.Int64
		slow := &stubborn{Sink: h.sink}
		slow.commit = func(_ context.Context, c fold.Commit) error {
			if n.Add(1) == 2 {
				once.Do(func() { close(held) })
				<-release
			}
			err := slow.Sink.Commit(context.Background(), c)
			if errors.Is(err, consumers.ErrFenced) {
				refused.Add(1)
			}
			return err
		}
		start(t, cutoff, h.foldInto(slow))
		h.caughtUp()
		h.mended.Store(true)
		request := h.key("a").Request(consumers.DropNothing)
		if err := h.desk.Ask(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		<-held
		wire.cut()
		h.start(cfg)
		answers, err := h.desk.Wait(t.Context(), []consumers.Request{request}, nil)
		if err != nil || answers[0].Outcome != consumers.Done || answers[0].Applied != 4 {
			t.Errorf("answer %+v, %v", answers[0], err)
		}
		close(release)
		eventually(t, "the zombie to be refused", func() error {
			if refused.Load() == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		h.add("a", 7)
		h.caughtUp()
		h.wantSums()
		h.wantEventsOnce()
		if keys := h.pending(); len(keys) != 0 {
			t.Errorf("pending are %+v", keys)
		}
	})
}

// Bytes from outside: what others write to our topics changes nothing and stops nobody.
func TestHostileBytesInOurTopics(t *testing.T) {
	onBrokers(t, 1, func(t *testing.T, r *rig) {
		h := newClinic(r)
		h.add("a", 13, 2)
		c := h.start(h.config())
		h.caughtUp()
		k := h.key("a")
		wantOutcome(t, h.ask(k.Request(consumers.DropNothing))[0], consumers.Stuck, 0, 0)
		cl, err := kgo.NewClient(kgo.SeedBrokers(h.brokers...))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for _, value := range hostileControl(h.topic) {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: consumers.ControlTopic(h.name), Key: []byte("k"), Value: value}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		for _, rec := range hostileLetters(h.topic, k) {
			rec.Topic = consumers.DeadLetterTopic(h.name)
			if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		h.mended.Store(true)
		if k := h.key("a"); k.Letters != 2 {
			t.Errorf("a is pending as %+v", k)
		}
		wantOutcome(t, h.ask(h.key("a").Request(consumers.DropNothing))[0], consumers.Done, 2, 0)
		h.add("a", 1)
		h.settled()
		if err := c.end(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func hostileControl(topic string) [][]byte {
	request := func(format string, args ...any) []byte { return fmt.Appendf(nil, format, args...) }
	return [][]byte{
		nil, {}, []byte("null"), []byte("[]"), []byte("\xff\xfe"), []byte(`{"request":`), []byte(`{"request":"x","answer":"y"}`), []byte(`{"request":7}`),
		request(`{"request":"x1","topic":%q,"partition":0,"key":"a","from":-1,"to":9,"drop":"all"}`, topic),
		request(`{"request":"x2","topic":%q,"partition":0,"key":"a","from":9,"to":1,"drop":"all"}`, topic),
		request(`{"request":"x3","topic":%q,"partition":0,"key":"a","from":0,"to":9,"drop":"everything"}`, topic),
		request(`{"request":"x4","topic":%q,"partition":-5,"key":"a","from":0,"to":9,"drop":"all"}`, topic),
		request(`{"request":"x5","topic":"no-such-topic","partition":3,"key":"a","from":0,"to":9,"drop":"all"}`),
		request(`{"request":"x6","topic":%q,"partition":0,"key":"a\u0000","from":0,"to":9,"drop":"all"}`, topic),
		request(`{"request":"x7","topic":%q,"partition":0,"key":"never quarantined","from":0,"to":9,"drop":"all"}`, topic),
		request(`{"request":"x8","topic":%q,"partition":0,"key":"a","from":9223372036854775806,"to":9223372036854775807,"drop":"all"}`, topic),
		request(`{"answer":"x9","topic":"","partition":0,"key":"a","outcome":"done","below":9000000000}`),
		slices.Concat([]byte(`{"request":"x10","topic":`), slices.Repeat([]byte("["), 60<<10)),
		slices.Concat([]byte(`{"request":"x11","key":"`), slices.Repeat([]byte("k"), 70<<10), []byte(`"}`)),
	}
}

// hostileLetters are records that are no letters, and letters of events that were never put aside.
func hostileLetters(topic string, k dlq.Key) []*kgo.Record {
	letter := func(over map[string]string) *kgo.Record {
		said := map[string]string{consumers.HeaderLetterTopic: topic, consumers.HeaderLetterPartition: "0", consumers.HeaderLetterOffset: fmt.Sprint(k.From),
			consumers.HeaderLetterFirst: fmt.Sprint(k.From)}
		maps.Copy(said, over)
		r := &kgo.Record{Key: []byte("a"), Value: []byte("hostile"), Headers: []kgo.RecordHeader{{Key: consumers.HeaderLetterClass, Value: []byte("poison")}}}
		for _, name := range slices.Sorted(maps.Keys(said)) {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(said[name])})
		}
		return r
	}
	return []*kgo.Record{
		{}, {Key: []byte("a"), Value: []byte("x")}, {Headers: []kgo.RecordHeader{{Key: consumers.HeaderLetterClass, Value: []byte("poison")}}},
		letter(map[string]string{consumers.HeaderLetterOffset: "-1"}),
		letter(map[string]string{consumers.HeaderLetterOffset: "99999999999999999999999"}),
		letter(map[string]string{consumers.HeaderLetterPartition: "4294967296"}),
		letter(map[string]string{consumers.HeaderLetterFirst: "9000000000000000000"}),
		letter(map[string]string{consumers.HeaderLetterClass: "\x1b[2J"}),
		letter(map[string]string{consumers.HeaderLetterTopic: ""}),
		letter(map[string]string{consumers.HeaderLetterOmitted: "-7", consumers.HeaderLetterTime: "yesterday", consumers.HeaderLetterOffset: fmt.Sprint(k.From)}),
	}
}
