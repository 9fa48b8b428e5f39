package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/consumers/webhook"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// post is a request as the receiver got it.
type post struct {
	key, id string
	n       int64 // the field of the test's events
	header  http.Header
	body    string
	code    int // what was answered
}

// receiver is somebody's server. answer decides what it says; nil is 200 to all.
type receiver struct {
	*httptest.Server
	answer func(p post) int // called without a lock, several at the same time

	inside, most atomic.Int64
	mu           sync.Mutex // guards the following
	posts        []post     // in the order in which they were answered
}

func newReceiver(t testing.TB, answer func(p post) int) *receiver {
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := r.inside.Add(1)
	for most := r.most.Load(); now > most && !r.most.CompareAndSwap(most, now); most = r.most.Load() {
	}
	defer r.inside.Add(-1)
	body, _ := io.ReadAll(req.Body)
	var fields struct{ N int64 }
	_ = json.Unmarshal(body, &fields)
	p := post{key: req.Header.Get("Ce-Partitionkey"), id: req.Header.Get("Ce-Id"), n: fields.N, header: req.Header, body: string(body), code: http.StatusOK}
	if r.answer != nil {
		p.code = r.answer(p)
	}
	r.mu.Lock()
	r.posts = append(r.posts, p)
	r.mu.Unlock()
	if p.code == 0 { // the answer gets lost
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(p.code)
	fmt.Fprintf(w, "about event %d", p.n)
}

func (r *receiver) all() []post {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.posts)
}

// taken are the numbers that were answered with success, by key, in order.
func (r *receiver) taken() map[string][]int64 {
	out := map[string][]int64{}
	for _, p := range r.all() {
		if p.code/100 == 2 {
			out[p.key] = append(out[p.key], p.n)
		}
	}
	return out
}

// positions are kept in memory.
type positions struct {
	*sinktest.Memory
	failing atomic.Bool // commits fail, as if the process died before them
	claims  atomic.Int64
}

func newPositions() *positions { return &positions{Memory: sinktest.NewMemory()} }

func (p *positions) Check(fold.Commit) error { return nil }

func (p *positions) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	p.claims.Add(1)
	return p.Memory.Claim(ctx, tp)
}

func (p *positions) Commit(ctx context.Context, c fold.Commit) error {
	if p.failing.Load() {
		return context.DeadlineExceeded
	}
	c.Events = nil
	return p.Memory.Commit(ctx, c)
}

func newSink(t testing.TB, url string, at webhook.Positions, change func(*webhook.Config)) *webhook.Sink {
	t.Helper()
	cfg := webhook.Config{URL: url, Secret: secret, Positions: at, Timeout: 30 * time.Second}
	if change != nil {
		change(&cfg)
	}
	s, err := webhook.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var tp = consumers.TopicPartition{Topic: "orders", Partition: 2}

// commit is a batch of events "key number", from an offset on.
func commit(epoch, from int64, events ...string) fold.Commit {
	c := fold.Commit{TopicPartition: tp, Epoch: epoch, From: from, Next: from + int64(len(events))}
	for i, text := range events {
		key, number, _ := strings.Cut(text, " ")
		var n int64
		fmt.Sscan(number, &n)
		offset := from + int64(i)
		c.Events = append(c.Events, consumers.Event{TopicPartition: tp, Offset: offset, Seq: offset + 1, ID: fmt.Sprint("event-", offset), Key: key, Type: "test.Added",
			Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}.WithFields(map[string]any{"n": n}))
	}
	return c
}

// kafka reaches a broker.
func kafka(brokers []string) []kgo.Opt { return []kgo.Opt{kgo.SeedBrokers(brokers...)} }
