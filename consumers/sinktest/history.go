package sinktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Sizes of a history.
const (
	histories       = 12
	historySteps    = 40
	historyEvents   = 60 // a partition
	historyMaxBatch = 9  // events
)

func historyChecks() []check {
	all := []check{{"rebuild from zero gives the same state", checkRebuild}}
	first := rand.Uint64() >> 32
	n := uint64(histories)
	if s := os.Getenv("MILLRACE_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			panic("sinktest: MILLRACE_SEED is not a number: " + s)
		}
		first, n = seed, 1
	}
	for seed := first; seed < first+n; seed++ {
		all = append(all, one(fmt.Sprintf("random history MILLRACE_SEED=%d", seed), func(t testing.TB, b Backend) { checkHistory(t, b, seed) }))
	}
	return all
}

// Promise 4: redelivery, rebalance, crash at any point, a slow zombie: the sink's state is that of applying each event once, in key
// order.
func checkHistory(t testing.TB, b Backend, seed uint64) {
	h := newHistory(t, b, seed)
	for range historySteps {
		h.step()
	}
	h.finish()
	h.compare()
}

// checkRebuild builds the same topic twice, cut into other batches.
func checkRebuild(t testing.TB, newBackend func(t testing.TB) Backend) {
	var dumps []map[string]fold.Stored
	var tallies []map[string]fold.Stored
	for cut := range uint64(2) {
		h := newHistory(t, newBackend(t), 42)
		h.rng = rand.New(rand.NewPCG(cut, cut))
		h.finish()
		h.compare()
		dumps, tallies = append(dumps, h.b.Dump(t, EntityLedger)), append(tallies, h.b.Dump(t, EntityTally))
	}
	wantStates(t, "the rebuilt ledger", dumps[1], dumps[0])
	wantStates(t, "the rebuilt tally", tallies[1], tallies[0])
}

// history is a run of a topic into a sink in which everything goes wrong that may.
type history struct {
	t       testing.TB
	b       Backend
	rng     *rand.Rand
	sink    *tap
	tps     []consumers.TopicPartition
	topic   map[consumers.TopicPartition][]consumers.Event
	ends    map[consumers.TopicPartition]int64
	owners  map[consumers.TopicPartition]*owner
	zombies map[consumers.TopicPartition][]*owner
	letters letterBox
}

// owner is a process that believes to own a partition.
type owner struct {
	fold *fold.Fold
	next int64
	last consumers.Batch
}

// tap remembers the last commit of each partition that the sink took.
type tap struct {
	fold.Sink
	last map[consumers.TopicPartition]fold.Commit
}

func newTap(s fold.Sink) *tap { return &tap{Sink: s, last: map[consumers.TopicPartition]fold.Commit{}} }

func (s *tap) Commit(ctx context.Context, c fold.Commit) error {
	err := s.Sink.Commit(ctx, c)
	if err == nil {
		s.last[c.TopicPartition] = c
	}
	return err
}

// letterBox notes the first time that each letter came, in order.
type letterBox map[consumers.TopicPartition][]int64

// Send implements fold.DeadLetters.
func (l letterBox) Send(_ context.Context, letters []consumers.DeadLetter) error {
	for _, x := range letters {
		if !slices.Contains(l[x.TopicPartition], x.Offset) {
			l[x.TopicPartition] = append(l[x.TopicPartition], x.Offset)
		}
	}
	return nil
}

func newHistory(t testing.TB, b Backend, seed uint64) *history {
	h := &history{
		t: t, b: b, rng: rand.New(rand.NewPCG(seed, 1)), sink: newTap(b.Open(t)), tps: []consumers.TopicPartition{ledger0, ledger1},
		topic: map[consumers.TopicPartition][]consumers.Event{}, ends: map[consumers.TopicPartition]int64{}, letters: letterBox{},
	}
	h.forget()
	for _, tp := range h.tps {
		h.write(tp)
	}
	return h
}

// write fills a partition. Offsets are left out where transaction markers would stand.
func (h *history) write(tp consumers.TopicPartition) {
	var offset int64
	for range historyEvents {
		offset += 1 + h.rng.Int64N(3)*h.rng.Int64N(2)
		h.topic[tp] = append(h.topic[tp], h.event(tp, offset))
	}
	h.ends[tp] = offset + 2
}

func (h *history) event(tp consumers.TopicPartition, offset int64) consumers.Event {
	key := fmt.Sprintf("%d-%c", tp.Partition, 'a'+h.rng.IntN(6))
	owner := map[string]any{"owner": fmt.Sprintf("owner %d", h.rng.IntN(3))}
	switch n := h.rng.IntN(100); {
	case n < 25:
		return event(tp, offset, key, typeOpened, owner)
	case n < 65:
		return event(tp, offset, key, typeAdded, map[string]any{"amount": big.NewRat(h.rng.Int64N(20001)-10000, 100)})
	case n < 77:
		return event(tp, offset, key, typeMoved, owner)
	case n < 90:
		return event(tp, offset, key, typeClosed, map[string]any{})
	case n < 96:
		return event(tp, offset, key, typeIgnored, map[string]any{})
	case n < 98:
		return event(tp, offset, key, typeRefused, map[string]any{})
	}
	ev := event(tp, offset, key, "", nil)
	ev.Err = errors.New("not Avro")
	if h.rng.IntN(2) == 0 {
		ev.Key = ""
	}
	return ev
}

// step does one thing.
func (h *history) step() {
	tp := h.tps[h.rng.IntN(len(h.tps))]
	switch n := h.rng.IntN(100); {
	case n < 45:
		h.advance(tp)
	case n < 55:
		h.redeliver(tp)
	case n < 62:
		h.overlap(tp)
	case n < 74:
		h.replace(tp)
	case n < 84:
		h.zombie(tp)
	case n < 90:
		h.cancel(tp)
	case n < 95:
		h.crash(tp)
	default:
		h.restart()
	}
}

// owner returns the partition's owner, claiming it if there is none.
func (h *history) owner(tp consumers.TopicPartition) *owner {
	h.t.Helper()
	if o := h.owners[tp]; o != nil {
		return o
	}
	f, err := fold.New(fold.Config{Sink: h.sink, Projections: Projections(), DeadLetters: h.letters})
	if err != nil {
		h.t.Fatalf("fold: %v", err)
	}
	next, err := f.Claim(context.Background(), tp)
	if err != nil {
		h.t.Fatalf("claim %v: %v", tp, err)
	}
	h.owners[tp] = &owner{fold: f, next: max(next, 0)}
	return h.owners[tp]
}

// batch cuts a batch at random from the given position.
func (h *history) batch(tp consumers.TopicPartition, from int64) consumers.Batch {
	b := consumers.Batch{TopicPartition: tp, From: from, Next: h.ends[tp]}
	limit := 1 + h.rng.IntN(historyMaxBatch)
	for _, ev := range h.topic[tp] {
		if ev.Offset < from {
			continue
		}
		if len(b.Events) == limit {
			b.Next = b.Events[limit-1].Offset + 1
			if h.rng.IntN(2) == 0 {
				b.Next = ev.Offset // the markers in between as well
			}
			return b
		}
		b.Events = append(b.Events, ev)
	}
	return b
}

// advance is a step without trouble.
func (h *history) advance(tp consumers.TopicPartition) {
	h.t.Helper()
	o := h.owner(tp)
	if o.next >= h.ends[tp] {
		return
	}
	b := h.batch(tp, o.next)
	if err := o.fold.Process(context.Background(), b); err != nil {
		h.t.Fatalf("process %v %d..%d: %v", tp, b.From, b.Next, err)
	}
	o.next, o.last = b.Next, b
}

// redeliver gives fold and sink the last batch once more.
func (h *history) redeliver(tp consumers.TopicPartition) {
	h.t.Helper()
	o := h.owner(tp)
	if o.last.Next > o.last.From {
		h.expect(o, o.last, consumers.ErrPosition)
	}
	if last, ok := h.sink.last[tp]; ok {
		last.Epoch = claim(h.t, h.sink, tp).Epoch
		refused(h.t, h.sink.Sink, last, consumers.ErrPosition)
		h.zombies[tp] = append(h.zombies[tp], o)
		delete(h.owners, tp)
	}
}

// overlap gives the owner a batch that begins with what is applied.
func (h *history) overlap(tp consumers.TopicPartition) {
	if o := h.owner(tp); o.next > 0 {
		h.expect(o, h.batch(tp, h.rng.Int64N(o.next)), consumers.ErrPosition)
	}
}

// replace lets another process claim the partition. The old one does not know.
func (h *history) replace(tp consumers.TopicPartition) {
	h.zombies[tp] = append(h.zombies[tp], h.owner(tp))
	delete(h.owners, tp)
	h.owner(tp)
}

// zombie wakes a process that lost the partition.
func (h *history) zombie(tp consumers.TopicPartition) {
	if z := h.zombies[tp]; len(z) > 0 {
		o := z[h.rng.IntN(len(z))]
		h.expect(o, h.batch(tp, o.next), consumers.ErrFenced)
	}
}

func (h *history) expect(o *owner, b consumers.Batch, want error) {
	h.t.Helper()
	if err := o.fold.Process(context.Background(), b); !errors.Is(err, want) {
		h.t.Errorf("process %v %d..%d: error is %v, want %v", b.TopicPartition, b.From, b.Next, err, want)
	}
}

// cancel ends the context in the middle; nobody knows what became of the batch.
func (h *history) cancel(tp consumers.TopicPartition) {
	h.t.Helper()
	o := h.owner(tp)
	if o.next >= h.ends[tp] {
		return
	}
	b := h.batch(tp, o.next)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(h.rng.IntN(2000))*time.Microsecond)
	defer cancel()
	if err := o.fold.Process(ctx, b); err == nil {
		o.next, o.last = b.Next, b
		return
	}
	delete(h.owners, tp)
}

// crash kills the process inside a commit, where the backend can.
func (h *history) crash(tp consumers.TopicPartition) {
	h.t.Helper()
	crasher, ok := h.b.(Crasher)
	o := h.owner(tp)
	if !ok || o.next >= h.ends[tp] {
		h.restart()
		return
	}
	points := crasher.CrashPoints()
	point := points[h.rng.IntN(len(points))]
	crasher.CrashAt(h.t, point)
	if err := o.fold.Process(context.Background(), h.batch(tp, o.next)); err == nil {
		h.t.Errorf("a commit that died at %q reported success", point)
	}
	h.restart()
}

// restart begins a new process on the store.
func (h *history) restart() {
	h.sink = newTap(h.b.Open(h.t))
	h.forget()
}

func (h *history) forget() {
	h.owners, h.zombies = map[consumers.TopicPartition]*owner{}, map[consumers.TopicPartition][]*owner{}
}

// finish delivers the rest.
func (h *history) finish() {
	for _, tp := range h.tps {
		for h.owner(tp).next < h.ends[tp] {
			h.advance(tp)
		}
	}
}

// compare compares the sink with the model.
func (h *history) compare() {
	h.t.Helper()
	m := newModel()
	for _, tp := range h.tps {
		m.letters, m.quarantined = nil, map[string]int64{}
		m.apply(h.topic[tp])
		if !slices.Equal(h.letters[tp], m.letters) {
			h.t.Errorf("dead letters of %v are %v, want %v", tp, h.letters[tp], m.letters)
		}
		if c := claim(h.t, h.sink, tp); !maps.Equal(c.Quarantined, m.quarantined) || c.Next != h.ends[tp] {
			h.t.Errorf("claim of %v is %+v, want next %d, quarantined %v", tp, c, h.ends[tp], m.quarantined)
		}
		wantPosition(h.t, h.sink, tp, h.ends[tp])
	}
	wantStates(h.t, "ledger", h.b.Dump(h.t, EntityLedger), m.visible(EntityLedger))
	wantStates(h.t, "tally", h.b.Dump(h.t, EntityTally), m.visible(EntityTally))
	if keeper, ok := h.b.(EventKeeper); ok {
		wantEvents(h.t, keeper.DumpEvents(h.t, TopicLedger), m.events)
	}
	for entity, states := range m.states {
		wantStates(h.t, "load of "+entity, load(h.t, h.sink, entity, slices.Sorted(maps.Keys(states))...), states)
	}
}
