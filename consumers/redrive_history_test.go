package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Promises 4 and 7 over random histories: events good and bad, redrives and discards while events keep coming, a projection that is mended, and a
// process that dies at any commit, in the middle of a redrive as well. In the end the sink holds the events that were not
// discarded, each once, in the order of their key. MILLRACE_SEED=n runs one history again.
func TestRandomHistoriesOfQuarantine(t *testing.T) {
	first, n := rand.Uint64()>>32, uint64(3)
	if s := os.Getenv("MILLRACE_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("MILLRACE_SEED is not a number: %q", s)
		}
		first, n = seed, 1
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprintf("MILLRACE_SEED=%d", seed), func(t *testing.T) {
			t.Parallel()
			w := &ward{clinic: newClinic(fakeRig(t, 2)), rng: rand.New(rand.NewPCG(seed, 5)), patients: map[string]*patient{}}
			w.live()
			for range 30 {
				w.step()
			}
			w.discharge()
		})
	}
}

// ward is a clinic with a model beside it.
type ward struct {
	*clinic
	rng      *rand.Rand
	patients map[string]*patient
	deaths   int
}

// patient is what the model knows of a key.
type patient struct {
	applied []int64 // versions
	sum     int64
	pending []dose // empty: not quarantined
}

type dose struct{ seq, amount int64 }

// can says whether the projection can fold an event as it is now.
func (w *ward) can(d dose) bool { return d.amount != 14 && (d.amount != 13 || w.mended.Load()) }

func (p *patient) apply(d dose) { p.applied, p.sum = append(p.applied, d.seq), p.sum+d.amount }

// come is the model of an event that comes.
func (w *ward) come(key string, d dose) {
	p := w.patients[key]
	if len(p.pending) > 0 || !w.can(d) {
		p.pending = append(p.pending, d)
		return
	}
	p.apply(d)
}

// settle is the model of a request that was made when the first seen of the key's events were pending.
func (w *ward) settle(key string, drop consumers.Drop, seen int) {
	p := w.patients[key]
	for i := 0; len(p.pending) > 0; i++ {
		d := p.pending[0]
		dropped := drop == consumers.DropFirst && i == 0 || drop == consumers.DropAll && i < seen || drop == consumers.DropPoison && i < seen && !w.can(d)
		switch {
		case dropped:
		case w.can(d):
			p.apply(d)
		default:
			return
		}
		p.pending = p.pending[1:]
	}
}

// write writes some events of a key.
func (w *ward) write(key string) {
	for range 1 + w.rng.IntN(6) {
		amount := int64(w.rng.IntN(12))
		if w.rng.IntN(9) == 0 {
			amount = 13 + int64(w.rng.IntN(2))
		}
		w.produce(true, w.added(key, amount))
		if w.patients[key] == nil {
			w.patients[key] = &patient{}
		}
		w.come(key, dose{w.total, amount})
	}
}

func (w *ward) step() {
	keys := []string{"a", "b", "c", "d"}
	if w.rng.IntN(10) == 0 {
		w.mended.Store(!w.mended.Load())
	}
	for range 3 {
		w.write(keys[w.rng.IntN(len(keys))])
	}
	w.caughtUp()
	drop := []consumers.Drop{consumers.DropNothing, consumers.DropFirst, consumers.DropPoison, consumers.DropAll}[w.rng.IntN(4)]
	w.round(drop, keys[w.rng.IntN(len(keys))])
}

// round asks for something about some of the keys, and writes events meanwhile.
func (w *ward) round(drop consumers.Drop, also ...string) {
	w.t.Helper()
	var requests []consumers.Request
	for _, k := range w.pending() {
		if w.rng.IntN(3) > 0 {
			requests = append(requests, k.Request(drop))
		}
	}
	for _, q := range requests {
		w.settle(q.Key, drop, len(w.patients[q.Key].pending))
	}
	if err := w.desk.Ask(w.t.Context(), requests...); err != nil {
		w.t.Fatalf("ask: %v", err)
	}
	for _, key := range also {
		w.write(key)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 60*time.Second)
	defer cancel()
	answers, err := w.desk.Wait(ctx, requests, nil)
	if err != nil {
		w.t.Fatalf("wait: %v", err)
	}
	for _, a := range answers {
		if a.Outcome == consumers.Failed {
			w.t.Errorf("key %s: %s", a.Key, a.Detail)
		}
	}
	w.caughtUp()
}

// discharge settles what is left, and compares.
func (w *ward) discharge() {
	w.mended.Store(true)
	for range 20 {
		if len(w.pending()) == 0 {
			break
		}
		w.round(consumers.DropPoison)
	}
	states := w.sink.States("counter")
	var kept []int64
	for key, p := range w.patients {
		kept = append(kept, p.applied...)
		if len(p.pending) > 0 {
			w.t.Errorf("the model has %v of %s pending", p.pending, key)
		}
		var got []int64
		sum := int64(0)
		if s, ok := states[key]; ok {
			sum = s.Values[0].(int64)
			for _, v := range s.Values[1].([]any) {
				got = append(got, v.(int64))
			}
		}
		if !slices.Equal(got, p.applied) || sum != p.sum {
			w.t.Errorf("%s applied %v, sum %d, want %v, sum %d", key, got, sum, p.applied, p.sum)
		}
	}
	var events []int64
	for _, e := range w.sink.Events(w.topic) {
		events = append(events, e.Seq)
	}
	slices.Sort(events)
	slices.Sort(kept)
	if !slices.Equal(events, kept) {
		w.t.Errorf("the sink keeps events %v, want %v", events, kept)
	}
	w.t.Logf("%d events, %d applied, the process died %d times; keys %v", w.total, len(kept), w.deaths, slices.Sorted(maps.Keys(w.patients)))
}

// live runs processes one after the other until the end of the test.
func (w *ward) live() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for life := uint64(0); ctx.Err() == nil; life++ {
			one, die := context.WithCancel(ctx)
			sink := &brittle{Sink: w.sink, rng: rand.New(rand.NewPCG(life, 6)), die: die}
			cfg := w.config()
			cfg.BatchEvents = 3
			c, err := consumers.New(cfg, w.foldInto(sink))
			if err == nil {
				err = c.Run(one)
			}
			if err != nil && ctx.Err() == nil && one.Err() == nil {
				w.t.Errorf("Run: %v", err)
			}
			die()
			w.deaths++
		}
	}()
	w.t.Cleanup(func() { stop(); <-done })
}

// brittle is the sink of a process that dies at some commit: it makes it or it does not, and nothing it does later has an effect.
type brittle struct {
	fold.Sink
	rng *rand.Rand
	die context.CancelFunc

	mu   sync.Mutex // guards the following
	dead bool
}

var (
	errDead  = errors.New("this process is dead")
	errReset = errors.New("connection reset")
)

func (b *brittle) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead {
		return fold.Claim{}, errDead
	}
	return b.Sink.Claim(ctx, tp)
}

func (b *brittle) Commit(ctx context.Context, c fold.Commit) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead {
		return errDead
	}
	fate := b.rng.IntN(24)
	if fate < 3 { // before: dead or not, nothing of it is done
		b.kill(fate < 2)
		return errReset
	}
	err := b.Sink.Commit(ctx, c)
	if err == nil && fate < 6 { // after: it is done, and nobody hears of it
		b.kill(fate < 5)
		return errReset
	}
	return err
}

func (b *brittle) kill(yes bool) {
	if yes {
		b.dead = true
		b.die()
	}
}
