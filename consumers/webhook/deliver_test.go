package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/webhook"
)

func claim(t testing.TB, s *webhook.Sink) fold.Claim {
	t.Helper()
	c, err := s.Claim(t.Context(), tp)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantPosition(t testing.TB, s *webhook.Sink, want int64) {
	t.Helper()
	at, err := s.Positions(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := at[tp]; got != want && (ok || want != -1) {
		t.Errorf("position is %d, want %d", got, want)
	}
}

// Promise 2: events of one key reach the receiver in order, one after the other; keys do not wait for each other, up to Concurrency.
func TestEachKeyIsPostedInOrderAndSeveralKeysAtATime(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	open := map[string]bool{}
	together := make(chan struct{})
	var begun sync.WaitGroup
	begun.Add(4)
	go func() { begun.Wait(); close(together) }()
	r := newReceiver(t, func(p post) int {
		mu.Lock()
		if open[p.key] {
			t.Errorf("two events of %s are under way", p.key)
		}
		open[p.key] = true
		mu.Unlock()
		if p.n == 0 && p.key < "k04" { // the first four keys wait for each other
			begun.Done()
			select {
			case <-together:
			case <-time.After(time.Minute):
				t.Error("four keys were not posted at the same time")
			}
		}
		mu.Lock()
		delete(open, p.key)
		mu.Unlock()
		return http.StatusAccepted
	})
	s := newSink(t, r.URL, newPositions(), func(c *webhook.Config) { c.Concurrency = 4 })
	var events []string
	for i := range 120 {
		events = append(events, fmt.Sprintf("k%02d %d", i%12, i/12))
	}
	if err := s.Commit(t.Context(), commit(claim(t, s).Epoch, 0, events...)); err != nil {
		t.Fatal(err)
	}
	taken := r.taken()
	if len(taken) != 12 || r.most.Load() > 4 {
		t.Errorf("%d keys, %d requests at a time", len(taken), r.most.Load())
	}
	for key, got := range taken {
		if !slices.Equal(got, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
			t.Errorf("%s: %v", key, got)
		}
	}
	wantPosition(t, s, 120)
}

// What was answered with success is not posted again when the batch is tried again; what was not has the same id then.
func TestATryGoesOnWhereTheLastOneStood(t *testing.T) {
	t.Parallel()
	busy := map[string]int{"b": http.StatusServiceUnavailable, "c": http.StatusTooManyRequests, "d": 0}
	var mu sync.Mutex
	r := newReceiver(t, func(p post) int {
		mu.Lock()
		defer mu.Unlock()
		if code, ok := busy[p.key]; ok && p.n == 2 {
			delete(busy, p.key)
			return code
		}
		return http.StatusOK
	})
	reg := prometheus.NewRegistry()
	s := newSink(t, r.URL, newPositions(), func(c *webhook.Config) { c.Registerer = reg })
	c := commit(claim(t, s).Epoch, 0, "a 1", "b 1", "c 1", "d 1", "a 2", "b 2", "c 2", "d 2", "a 3", "b 3", "c 3", "d 3")
	if err := s.Commit(t.Context(), c); err == nil || consumers.Classify(err) != consumers.Transient {
		t.Fatalf("%v", err)
	}
	wantPosition(t, s, -1)
	if err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for key, got := range r.taken() {
		if !slices.Equal(got, []int64{1, 2, 3}) {
			t.Errorf("%s was taken %v", key, got)
		}
	}
	ids := map[string]string{}
	for _, p := range r.all() {
		place := fmt.Sprint(p.key, p.n)
		if before, again := ids[place]; again && before != p.id {
			t.Errorf("%s was posted as %s and as %s", place, before, p.id)
		}
		ids[place] = p.id
	}
	wantPosition(t, s, 12)
	want := "# HELP millrace_webhook_answers_total Requests by what their answer means.\n# TYPE millrace_webhook_answers_total counter\n" +
		`millrace_webhook_answers_total{class="ok",sink="webhook"} 12` + "\n" + `millrace_webhook_answers_total{class="poison",sink="webhook"} 0` + "\n" +
		`millrace_webhook_answers_total{class="systemic",sink="webhook"} 0` + "\n" + `millrace_webhook_answers_total{class="transient",sink="webhook"} 3` + "\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "millrace_webhook_answers_total"); err != nil {
		t.Error(err)
	}
}

// Promise 7: what the receiver will never take is told by its offset, and what stands behind it of its key is not posted. The others are.
func TestWhatIsRefusedHoldsItsKeyOnly(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(p post) int {
		if p.n == 13 {
			return http.StatusGone
		}
		return http.StatusOK
	})
	s := newSink(t, r.URL, newPositions(), nil)
	c := commit(claim(t, s).Epoch, 0, "a 1", "b 1", "a 13", "b 2", "a 2", "c 13")
	for range 2 { // a refusal is remembered, and not asked for again
		var rejected *fold.Rejected
		err := s.Commit(t.Context(), c)
		if !errors.As(err, &rejected) || !slices.Equal(slices.Sorted(maps.Keys(rejected.Events)), []int64{2, 5}) {
			t.Fatalf("%v", err)
		}
		if !strings.Contains(err.Error(), "410: about event 13") {
			t.Errorf("the error does not say why: %v", err)
		}
	}
	if got := r.taken(); !reflect.DeepEqual(got, map[string][]int64{"a": {1}, "b": {1, 2}}) || len(r.all()) != 5 {
		t.Errorf("taken %v of %d posts", got, len(r.all()))
	}
	c.Events = slices.DeleteFunc(c.Events, func(ev consumers.Event) bool { return ev.Offset == 2 || ev.Offset == 4 || ev.Offset == 5 })
	if err := s.Commit(t.Context(), c); err != nil || len(r.all()) != 5 {
		t.Errorf("%v, %d posts", err, len(r.all()))
	}
	wantPosition(t, s, 6)
}

// A server that is away is not asked for every key of a batch.
func TestAServerThatIsAwayIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(post) int { return http.StatusBadGateway })
	s := newSink(t, r.URL, newPositions(), func(c *webhook.Config) { c.Concurrency = 3 })
	var events []string
	for i := range 500 {
		events = append(events, fmt.Sprintf("k%d 1", i))
	}
	if err := s.Commit(t.Context(), commit(claim(t, s).Epoch, 0, events...)); consumers.Classify(err) != consumers.Transient || err == nil {
		t.Fatal(err)
	}
	if n := len(r.all()); n > 2*3 {
		t.Errorf("%d posts to a server that is away", n)
	}
}

// Credentials that are refused stop the sink, at once and with nothing lost.
func TestRefusedCredentialsAreSystemic(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(post) int { return http.StatusUnauthorized })
	s := newSink(t, r.URL, newPositions(), func(c *webhook.Config) {
		c.Concurrency, c.Headers = 1, map[string]string{"Authorization": "Bearer t0ken"}
	})
	err := s.Commit(t.Context(), commit(claim(t, s).Epoch, 0, "a 1", "b 1", "c 1"))
	if consumers.Classify(err) != consumers.Systemic || len(r.all()) != 1 || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("%v after %d posts", err, len(r.all()))
	}
	if got := r.all()[0].header.Get("Authorization"); got != "Bearer t0ken" {
		t.Errorf("sent %q", got)
	}
	wantPosition(t, s, -1)
}

// A batch that is cut short leaves the position where everything before it is done: the next owner repeats little.
func TestABatchThatIsCutShortKeepsWhatIsDone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	stuck := make(chan struct{})
	r := newReceiver(t, func(p post) int {
		if p.n == 3 {
			cancel()
			<-stuck
		}
		return http.StatusOK
	})
	defer close(stuck)
	s := newSink(t, r.URL, newPositions(), func(c *webhook.Config) { c.Concurrency = 1 })
	c := commit(claim(t, s).Epoch, 0, "a 1", "a 2", "a 3", "a 4")
	c.Quarantine = map[string]int64{"x": 1, "y": 3}
	if err := s.Commit(ctx, c); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wantPosition(t, s, 2)
	if again := claim(t, s); !maps.Equal(again.Quarantined, map[string]int64{"x": 1}) {
		t.Errorf("quarantined %v: a mark goes with the position that passes it", again.Quarantined)
	}
}

// A sink that stops keeps what is done, too: mended credentials do not repeat the batch.
func TestWhatStopsTheSinkKeepsWhatIsDone(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(p post) int {
		if p.n == 3 {
			return http.StatusUnauthorized
		}
		return http.StatusOK
	})
	s := newSink(t, r.URL, newPositions(), func(c *webhook.Config) { c.Concurrency = 1 })
	err := s.Commit(t.Context(), commit(claim(t, s).Epoch, 0, "a 1", "a 2", "a 3", "a 4"))
	if consumers.Classify(err) != consumers.Systemic {
		t.Fatal(err)
	}
	wantPosition(t, s, 2)
}

// noLetters takes dead letters.
type noLetters struct{}

func (noLetters) Send(context.Context, []consumers.DeadLetter) error { return nil }

// A receiver that takes a few events at a time gets all that is redriven in the end: each try goes on where the last one stood, and not before the
// receiver wants it. Were the partition claimed anew in between, each would begin with the first event.
func TestARedriveGoesOnWhereTheLastTryStood(t *testing.T) {
	t.Parallel()
	var budget atomic.Int64
	r := newReceiver(t, func(post) int {
		if budget.Add(-1) < 0 {
			return http.StatusTooManyRequests
		}
		return http.StatusOK
	})
	at := newPositions()
	s := newSink(t, r.URL, at, nil)
	f, err := fold.New(fold.Config{Sink: s, DeadLetters: noLetters{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Claim(t.Context(), tp); err != nil {
		t.Fatal(err)
	}
	events := commit(1, 0, "a 1", "a 2", "a 3").Events
	bad := slices.Clone(events)
	bad[0].Err = errors.New("cannot be read")
	if err := f.Process(t.Context(), consumers.Batch{TopicPartition: tp, From: 0, Next: 3, Events: bad}); err != nil {
		t.Fatal(err)
	}
	for try := range 3 {
		budget.Store(1)
		done, err := f.Redrive(t.Context(), consumers.Redrive{TopicPartition: tp, Events: events, Rest: map[string]int64{"a": -1}})
		switch {
		case try < 2 && (err == nil || errors.Is(err, consumers.ErrPosition) || consumers.Classify(err) != consumers.Transient):
			t.Fatalf("try %d: %v", try, err)
		case try == 2 && (err != nil || done.Applied["a"] != 3):
			t.Fatalf("%+v, %v", done, err)
		}
	}
	if got := r.taken()["a"]; !slices.Equal(got, []int64{1, 2, 3}) {
		t.Errorf("taken %v", got)
	}
}

// Skip leaves events out: those of other types, or those of a rebuild. The position passes them.
func TestEventsCanBeLeftOut(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	s := newSink(t, r.URL, newPositions(), func(c *webhook.Config) {
		c.Skip = func(ev *consumers.Event) bool { return ev.Header("millrace-replayed") != "" }
	})
	c := commit(claim(t, s).Epoch, 0, "a 1", "a 2", "a 3")
	c.Events[1] = c.Events[1].WithHeaders(map[string]string{"millrace-replayed": "2026-01-02T03:04:05Z"})
	if err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := r.taken()["a"]; !slices.Equal(got, []int64{1, 3}) {
		t.Errorf("taken %v", got)
	}
	wantPosition(t, s, 3)
}
