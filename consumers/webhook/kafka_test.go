package webhook_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/position"
	"github.com/millrace/millrace/consumers/webhook"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/test/harness"
)

const schema = `{"type":"record","name":"Added","namespace":"test","fields":[{"name":"n","type":"long"}]}`

type oneSchema struct{}

func (oneSchema) Schema(_ context.Context, id int) (string, error) {
	if id != 1 {
		return "", registry.ErrNotFound
	}
	return schema, nil
}

// rig is a topic on the real broker, with what was written to it.
type rig struct {
	t       testing.TB
	brokers []string
	topic   string
	name    string
	cl      *kgo.Client
	codec   *avro.Codec
	seq     int64
	want    map[string][]int64
}

func newRig(t *testing.T, partitions int) *rig {
	t.Helper()
	k := harness.Kafka(t)
	r := &rig{t: t, brokers: k.Brokers, topic: k.NewTopic(t, partitions), name: harness.Unique("hook"), want: map[string][]int64{}}
	cl, err := kgo.NewClient(append(kafka(r.brokers), kgo.DefaultProduceTopic(r.topic), kgo.MetadataMinAge(100*time.Millisecond), kgo.UnknownTopicRetries(100))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	r.cl = cl
	if r.codec, err = avro.New(schema); err != nil {
		t.Fatal(err)
	}
	return r
}

// add writes n events over a number of keys. Their numbers go on from what the key has.
func (r *rig) add(n, keys int) {
	r.t.Helper()
	var records []*kgo.Record
	for i := range n {
		key := fmt.Sprint("key-", i%keys)
		r.seq++
		r.want[key] = append(r.want[key], r.seq)
		value, err := r.codec.AppendEncode(avro.AppendFrame(nil, 1), map[string]any{"n": r.seq})
		if err != nil {
			r.t.Fatal(err)
		}
		records = append(records, &kgo.Record{Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
			{Key: "ce_id", Value: fmt.Appendf(nil, "event-%d", r.seq)}, {Key: "millrace-seq", Value: []byte(strconv.FormatInt(r.seq, 10))}}})
	}
	if err := r.cl.ProduceSync(r.t.Context(), records...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// hook is a process with the sink.
type hook struct {
	*consumers.Consumer
	claims atomic.Int64
	stop   func()
}

// claiming counts claims.
type claiming struct {
	*position.Log
	n     *atomic.Int64
	dying *atomic.Bool // commits do not come to anything any more
}

func (c claiming) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	c.n.Add(1)
	return c.Log.Claim(ctx, tp)
}

func (c claiming) Commit(ctx context.Context, b fold.Commit) error {
	if c.dying != nil && c.dying.Load() {
		return context.DeadlineExceeded
	}
	return c.Log.Commit(ctx, b)
}

func (r *rig) start(url string, dying *atomic.Bool, change func(*consumers.Config)) *hook {
	r.t.Helper()
	h := &hook{}
	log, err := position.New(position.Config{Sink: r.name, Kafka: kafka(r.brokers)})
	if err != nil {
		r.t.Fatal(err)
	}
	sink := newSink(r.t, url, claiming{log, &h.claims, dying}, func(c *webhook.Config) { c.Concurrency = 4 })
	letters, err := consumers.NewDeadLetterProducer(r.name, kafka(r.brokers)...)
	if err != nil {
		r.t.Fatal(err)
	}
	folder, err := fold.New(fold.Config{Name: r.name, Sink: sink, DeadLetters: letters})
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := consumers.Config{Name: r.name, Topics: []string{r.topic}, Kafka: kafka(r.brokers), Registry: oneSchema{}, BatchEvents: 50,
		MonitorInterval: 50 * time.Millisecond, RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	if h.Consumer, err = consumers.New(cfg, folder); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("the consumer ends: %v", err)
		}
		if err := sink.Close(); err != nil {
			r.t.Error(err)
		}
	}
	r.t.Cleanup(h.stop)
	return h
}

// eventually polls until f returns nil: what it waits for is in other processes.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// firsts are the numbers of each key in the order in which they were first taken, and how many were taken again. Every repetition must have the id of
// the first.
func firsts(t testing.TB, posts []post) (order map[string][]int64, again int) {
	t.Helper()
	order, ids := map[string][]int64{}, map[int64]string{}
	for _, p := range posts {
		if id, seen := ids[p.n]; seen && id != p.id || p.id != fmt.Sprint("event-", p.n) || p.header.Get("Webhook-Id") != p.id {
			t.Errorf("event %d is posted as %s", p.n, p.id)
		}
		ids[p.n] = p.id
		if p.code/100 != 2 {
			continue
		}
		if slices.Contains(order[p.key], p.n) {
			again++
			continue
		}
		order[p.key] = append(order[p.key], p.n)
	}
	return order, again
}

// Promise 4, as far as an effect elsewhere can have it: each event at least once, in the order of its key, a repetition by the same id - whatever
// the receiver answers, and although a process dies between its posts and the position.
func TestEveryEventIsPostedInOrderThroughFailuresAndDeaths(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	var calls atomic.Int64
	server := newReceiver(t, func(post) int {
		switch calls.Add(1) % 17 {
		case 3:
			return http.StatusServiceUnavailable
		case 7:
			return 0 // taken, perhaps: the answer gets lost
		case 11:
			return http.StatusTooManyRequests
		}
		return http.StatusOK
	})
	r.add(300, 20)
	var dying atomic.Bool
	first := r.start(server.URL, &dying, nil)
	eventually(t, "a part to be posted", func() error {
		if n := len(server.all()); n < 100 {
			return fmt.Errorf("%d posts", n)
		}
		return nil
	})
	dying.Store(true) // from now on it posts, and no position moves
	r.add(300, 20)
	posted := len(server.all())
	eventually(t, "posts without a position", func() error {
		if n := len(server.all()); n < posted+20 {
			return fmt.Errorf("%d posts of %d", n, posted+20)
		}
		return nil
	})
	first.stop()
	second := r.start(server.URL, nil, nil)
	eventually(t, "everything to be posted", func() error {
		if order, _ := firsts(t, server.all()); !sameLength(order, r.want) {
			return fmt.Errorf("taken %d keys, status %+v", len(order), second.Status())
		}
		return nil
	})
	order, again := firsts(t, server.all())
	if !reflect.DeepEqual(order, r.want) {
		t.Errorf("taken %v, want %v", order, r.want)
	}
	if again == 0 {
		t.Error("nothing was posted twice: the process did not die between post and position")
	}
	t.Logf("%d posts, %d events taken again", len(server.all()), again)
}

func sameLength(got, want map[string][]int64) bool {
	n := 0
	for _, numbers := range got {
		n += len(numbers)
	}
	for _, numbers := range want {
		n -= len(numbers)
	}
	return n == 0
}

// Promise 7: an event that the receiver will never take goes to the dead letters with its key's later ones, the others go on, and a redrive posts them
// in order when the receiver is mended.
func TestPoisonGoesToTheDeadLettersAndIsRedriven(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	var mended atomic.Bool
	server := newReceiver(t, func(p post) int {
		if p.n == 6 && !mended.Load() {
			return http.StatusUnprocessableEntity
		}
		return http.StatusOK
	})
	r.add(20, 5) // 6 is the second of key-0
	h := r.start(server.URL, nil, nil)
	desk := dlq.New(r.name, kafka(r.brokers)...)
	var stuck dlq.Key
	pending := func(n int64) {
		t.Helper()
		eventually(t, "dead letters", func() error {
			keys, err := desk.Keys(t.Context(), dlq.Filter{})
			if err != nil || len(keys) != 1 || keys[0].Letters != n {
				return fmt.Errorf("%+v, %v", keys, err)
			}
			stuck = keys[0]
			return nil
		})
	}
	pending(3)
	if stuck.Key != "key-0" {
		t.Errorf("quarantined %+v", stuck)
	}
	h.stop()
	r.add(10, 5) // the next owner knows the mark
	r.start(server.URL, nil, nil)
	pending(5)
	ask := func(want consumers.Outcome, applied int64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		q := stuck.Request(consumers.DropNothing)
		if err := desk.Ask(ctx, q); err != nil {
			t.Fatal(err)
		}
		answers, err := desk.Wait(ctx, []consumers.Request{q}, nil)
		if err != nil || answers[0].Outcome != want || answers[0].Applied != applied {
			t.Fatalf("%+v, %v", answers[0], err)
		}
	}
	ask(consumers.Stuck, 0)
	mended.Store(true)
	ask(consumers.Done, 5)
	r.add(5, 5)
	eventually(t, "everything to be posted", func() error {
		if order, _ := firsts(t, server.all()); !sameLength(order, r.want) {
			return fmt.Errorf("taken %v", order)
		}
		return nil
	})
	if order, _ := firsts(t, server.all()); !reflect.DeepEqual(order, r.want) {
		t.Errorf("taken %v, want %v", order, r.want)
	}
}

// A receiver that is slower than a session of the group costs no partition: fetching pauses, the group hears from the process all the while.
func TestASlowReceiverCausesNoRebalance(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	const session = 6 * time.Second // the least that brokers accept
	slow := make(chan struct{})
	server := newReceiver(t, func(post) int { <-slow; return http.StatusOK })
	r.add(40, 4)
	h := r.start(server.URL, nil, func(c *consumers.Config) { c.SessionTimeout = session })
	eventually(t, "the first posts", func() error {
		if server.inside.Load() == 0 {
			return fmt.Errorf("none is under way")
		}
		return nil
	})
	before := h.claims.Load()
	timer := time.NewTimer(session + session/2) // what is shown is that this passes without consequence
	<-timer.C
	r.add(40, 4)
	close(slow)
	eventually(t, "everything to be posted", func() error {
		if order, _ := firsts(t, server.all()); !sameLength(order, r.want) {
			return fmt.Errorf("%+v", h.Status())
		}
		return nil
	})
	order, again := firsts(t, server.all())
	if after := h.claims.Load(); after != before || again != 0 || !reflect.DeepEqual(order, r.want) {
		t.Errorf("%d claims became %d, %d events again, taken %v", before, after, again, order)
	}
}

// A key whose posts are answered with 503 holds its partition, and that only after the batch in hand: other keys of the batch are posted, other partitions go on. When the receiver is
// mended nothing is missing, and the key's order is kept.
func TestAKeyThatIsAnswered503HoldsItsPartitionOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	var mended atomic.Bool
	server := newReceiver(t, func(p post) int {
		if p.key == "key-0" && !mended.Load() {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	r.add(40, 8) // a batch holds it all
	h := r.start(server.URL, nil, nil)
	without := func(want map[string][]int64) map[string][]int64 {
		rest := maps.Clone(want)
		delete(rest, "key-0")
		return rest
	}
	eventually(t, "all keys but one", func() error {
		if order, _ := firsts(t, server.all()); !reflect.DeepEqual(order, without(r.want)) {
			return fmt.Errorf("taken %v, status %+v", order, h.Status())
		}
		return nil
	})
	part := kgo.StickyKeyPartitioner(nil).ForTopic(r.topic) // by which the test's client spreads keys
	at := func(key string) int { return part.Partition(&kgo.Record{Key: []byte(key)}, 2) }
	r.add(40, 8)
	eventually(t, "the other partition to go on", func() error {
		order, _ := firsts(t, server.all())
		for key, want := range r.want {
			if at(key) != at("key-0") && !slices.Equal(order[key], want) {
				return fmt.Errorf("%s: taken %v of %v, status %+v", key, order[key], want, h.Status())
			}
		}
		return nil
	})
	mended.Store(true)
	eventually(t, "everything to be posted", func() error {
		if order, _ := firsts(t, server.all()); !reflect.DeepEqual(order, r.want) {
			return fmt.Errorf("taken %v, status %+v", order, h.Status())
		}
		return nil
	})
}

// A webhook that is to begin later than the topic does keeps where, before it posts anything: after a crash it goes on from there, although by then it would begin elsewhere.
func TestAStartIsKeptBeforeAnythingIsPosted(t *testing.T) {
	t.Parallel()
	at := newPositions()
	server := newReceiver(t, nil)
	starts := int64(7)
	open := func() *webhook.Sink {
		return newSink(t, server.URL, at, func(c *webhook.Config) {
			c.Start = func(context.Context, consumers.TopicPartition) (int64, error) { return starts, nil }
		})
	}
	if c := claim(t, open()); c.Next != 7 {
		t.Errorf("it begins at %d", c.Next)
	}
	starts = 12 // what came meanwhile is to be posted
	s := open()
	if c := claim(t, s); c.Next != 7 {
		t.Errorf("begun again, it begins at %d", c.Next)
	}
	wantPosition(t, s, 7)
}
