package fold_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/sinktest"
)

var tp = consumers.TopicPartition{Topic: "orders", Partition: 2}

// words is an entity whose state is the words of its events. "!" cannot be folded, "-" deletes, "?" is not named, "panic" panics.
type words struct {
	entity string
	also   string // a word that only this entity cannot fold
}

func (w words) Entity() string { return w.entity }
func (w words) Topic() string  { return "orders" }
func (w words) Digest() string { return "1" }
func (w words) Columns() []projection.Column {
	return []projection.Column{{Name: "words", Type: projection.Type{Kind: projection.Text}}}
}

func (w words) Fold(prev projection.State, ev *consumers.Event) (projection.State, error) {
	word := ev.Fields()["word"].(string)
	switch word {
	case "!", w.also:
		return projection.State{}, errors.New("cannot fold " + word)
	case "systemic":
		return projection.State{}, consumers.AsSystemic(errors.New("the declaration is wrong"))
	case "panic":
		panic("at the word")
	case "-":
		return projection.State{Values: []any{"left over"}}, nil
	case "?":
		return prev, nil
	}
	text := ""
	if prev.Exists {
		text = prev.Values[0].(string)
	}
	return projection.State{Exists: true, Values: []any{text + word}}, nil
}

func (w words) CacheKeys(key string, s projection.State) ([]string, error) {
	if s.Values[0] == "unkeyed" {
		return nil, errors.New("no cache key")
	}
	return []string{key, fmt.Sprint("words:", s.Values[0])}, nil
}

// journal is a sink and a dead-letter topic that note what was done in what order.
type journal struct {
	*sinktest.Memory
	steps   []string
	commits []fold.Commit
	letters []consumers.DeadLetter
	loads   [][]string
	sendErr error
	failing error // what the next Commit returns, after it was done or instead
	done    bool  // the failing Commit is done all the same
	closed  bool
}

func (j *journal) Load(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	j.steps, j.loads = append(j.steps, "load "+entity), append(j.loads, keys)
	return j.Memory.Load(ctx, entity, keys)
}

func (j *journal) Commit(ctx context.Context, c fold.Commit) error {
	if err := j.failing; err != nil {
		j.failing = nil
		if j.done {
			return errors.Join(err, j.Memory.Commit(ctx, c))
		}
		return err
	}
	j.steps, j.commits = append(j.steps, "commit"), append(j.commits, c)
	return j.Memory.Commit(ctx, c)
}

func (j *journal) Send(_ context.Context, letters []consumers.DeadLetter) error {
	j.steps = append(j.steps, fmt.Sprintf("send %d", len(letters)))
	if j.sendErr != nil {
		return j.sendErr
	}
	j.letters = append(j.letters, letters...)
	return nil
}

func (j *journal) Close() error { j.closed = true; return nil }

// bench is a Fold over a journal, with its partition claimed.
type bench struct {
	*fold.Fold
	j    *journal
	next int64
}

func newBench(t *testing.T, change func(*fold.Config), projections ...fold.Projection) *bench {
	t.Helper()
	j := &journal{Memory: sinktest.NewMemory(projections...)}
	cfg := fold.Config{Sink: j, DeadLetters: j, Projections: projections}
	if change != nil {
		change(&cfg)
	}
	f, err := fold.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Claim(t.Context(), tp); err != nil {
		t.Fatal(err)
	}
	return &bench{Fold: f, j: j}
}

// batch makes a batch of "key word" events that follows the last one.
func (b *bench) batch(events ...string) consumers.Batch {
	batch := consumers.Batch{TopicPartition: tp, From: b.next, Next: b.next + int64(len(events))}
	for i, text := range events {
		key, word, _ := strings.Cut(text, " ")
		typ := "word"
		if strings.HasPrefix(word, "=") {
			typ = "Set"
		}
		ev := consumers.Event{TopicPartition: tp, Offset: b.next + int64(i), Seq: b.next + int64(i) + 1, ID: text, Key: key, Type: typ}.
			WithFields(map[string]any{"word": word})
		if word == "undecodable" {
			ev.Err = errors.New("not Avro")
			ev = ev.WithFields(nil)
		}
		batch.Events = append(batch.Events, ev)
	}
	return batch
}

func (b *bench) process(t *testing.T, events ...string) {
	t.Helper()
	batch := b.batch(events...)
	if err := b.Process(t.Context(), batch); err != nil {
		t.Fatalf("process %v: %v", events, err)
	}
	b.next = batch.Next
}

// states are the words of each key.
func (b *bench) states(entity string) map[string]string {
	all := map[string]string{}
	for key, s := range b.j.States(entity) {
		all[key] = s.Values[0].(string)
	}
	return all
}

func (b *bench) wantStates(t *testing.T, entity string, want map[string]string) {
	t.Helper()
	if got := b.states(entity); !reflect.DeepEqual(got, want) {
		t.Errorf("%s is %v, want %v", entity, got, want)
	}
}

func (b *bench) wantLetters(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, l := range b.j.letters {
		got = append(got, fmt.Sprintf("%s: %s %d", l.ID, l.Class, l.First))
	}
	if !slices.Equal(got, want) {
		t.Errorf("dead letters are %q, want %q", got, want)
	}
}

// rows are words whose rows have versions: the number of letters. A deletion does not tell.
type rows struct{ words }

func (rows) CacheVersion(s projection.State) (int64, bool) {
	if !s.Exists {
		return 0, false
	}
	return int64(len(s.Values[0].(string))), true
}

// What may be cached of a row from a replica is what the last state says; after a deletion, nothing that was before it.
func TestAChangeTellsTheVersionOfItsRow(t *testing.T) {
	b := newBench(t, nil, rows{words{entity: "a"}})
	b.process(t, "x 1", "x 2", "y 1", "y 2", "y -", "z ?")
	b.process(t, "x 3", "y 1")
	got := map[string]int64{}
	for i, c := range b.j.commits {
		for _, ch := range c.Changes["a"] {
			got[fmt.Sprint(ch.Key, i)] = ch.CacheVersion
		}
	}
	if want := map[string]int64{"x0": 2, "y0": 3, "x1": 3, "y1": 1}; !reflect.DeepEqual(got, want) {
		t.Errorf("versions %v, want %v", got, want)
	}
}

func TestOneBatch(t *testing.T) {
	b := newBench(t, nil, words{entity: "a"})
	b.process(t, "x 1", "y 1", "x 2", "z -", "y -", "q ?")
	b.wantStates(t, "a", map[string]string{"x": "12"})
	if got := strings.Join(b.j.steps, ", "); got != "load a, commit" {
		t.Errorf("steps are %s", got)
	}
	if !slices.Equal(b.j.loads[0], []string{"q", "x", "y", "z"}) {
		t.Errorf("loaded %v", b.j.loads[0])
	}
	c := b.j.commits[0]
	if c.From != 0 || c.Next != 6 || c.Epoch != 1 || len(c.Events) != 6 || len(c.Changes["a"]) != 2 {
		t.Fatalf("commit is %+v", c)
	}
	x, y := c.Changes["a"][0], c.Changes["a"][1]
	if x.Key != "x" || x.Version != 3 || x.EventID != "x 2" || x.Existed || !slices.Equal(x.CacheKeys, []string{"words:1", "words:12", "x"}) {
		t.Errorf("change of x is %+v", x)
	}
	if y.Key != "y" || y.Exists || y.Values != nil || y.Version != 5 || !slices.Equal(y.CacheKeys, []string{"words:1", "y"}) {
		t.Errorf("change of y is %+v", y)
	}
	b.process(t, "x 3")
	x = b.j.commits[1].Changes["a"][0]
	if !x.Existed || !slices.Equal(x.CacheKeys, []string{"words:12", "words:123", "x"}) {
		t.Errorf("a change names the cache keys of the state before it: %+v", x)
	}
}

// Versions at or below the state's change nothing.
func TestStaleVersions(t *testing.T) {
	b := newBench(t, nil, words{entity: "a"})
	b.process(t, "x 1", "x -")
	batch := b.batch("x 2", "x 3", "y 1")
	batch.Events[0].Seq, batch.Events[1].Seq = 1, 2
	if err := b.Process(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	b.wantStates(t, "a", map[string]string{"y": "1"})
	if n := len(b.j.commits[1].Events); n != 3 {
		t.Errorf("%d events were handed on as they came, want 3", n)
	}
}

// Promise 7: the poison event and its key's later ones are put aside in order, before the position moves; the state keeps what
// came before.
func TestPoisonQuarantinesTheKey(t *testing.T) {
	b := newBench(t, nil, words{entity: "a"})
	b.process(t, "x 1", "x !", "x 2", "y 1", "z undecodable", "z 1", " undecodable", "p panic", "u unkeyed")
	b.wantStates(t, "a", map[string]string{"x": "1", "y": "1"})
	b.wantLetters(t, "x !: poison 1", "x 2: quarantined 1", "z undecodable: poison 4", "z 1: quarantined 4", " undecodable: poison 6",
		"p panic: poison 7", "u unkeyed: poison 8")
	if got := strings.Join(b.j.steps, ", "); got != "load a, send 7, commit" {
		t.Errorf("steps are %s", got)
	}
	if got, want := b.j.commits[0].Quarantine, map[string]int64{"x": 1, "z": 4, "p": 7, "u": 8}; !reflect.DeepEqual(got, want) {
		t.Errorf("quarantined %v, want %v", got, want)
	}
	if n := len(b.j.commits[0].Events); n != 2 {
		t.Errorf("%d events were handed on", n)
	}
	b.process(t, "x 3", "y 2")
	if _, err := b.Claim(t.Context(), tp); err != nil {
		t.Fatal(err)
	}
	b.process(t, "x 4", "y 3")
	b.wantStates(t, "a", map[string]string{"x": "1", "y": "123"})
	if n := len(b.j.letters); n != 9 {
		t.Errorf("%d letters after all", n)
	}
}

// An event that one entity cannot fold is applied to none of its topic.
func TestPoisonConcernsAllEntities(t *testing.T) {
	b := newBench(t, nil, words{entity: "a"}, words{entity: "b", also: "odd"})
	b.process(t, "x 1", "y odd", "x odd", "x 2", "y 1")
	b.wantStates(t, "a", map[string]string{"x": "1"})
	b.wantStates(t, "b", map[string]string{"x": "1"})
	b.wantLetters(t, "y odd: poison 1", "x odd: poison 2", "x 2: quarantined 2", "y 1: quarantined 1")
}

// The position passes a dead letter only after it is acknowledged, and a batch tried again does not repeat its letters.
func TestLettersComeBeforeThePosition(t *testing.T) {
	b := newBench(t, nil, words{entity: "a"})
	b.j.sendErr = errors.New("kafka is away")
	batch := b.batch("x !", "y 1")
	for range 2 {
		if err := b.Process(t.Context(), batch); !errors.Is(err, b.j.sendErr) {
			t.Fatalf("error is %v", err)
		}
	}
	if len(b.j.commits) != 0 {
		t.Fatal("committed without a dead letter")
	}
	b.j.sendErr, b.j.failing = nil, errors.New("the sink is away")
	if err := b.Process(t.Context(), batch); err == nil {
		t.Fatal("no error")
	}
	b.process(t, "x !", "y 1")
	b.wantLetters(t, "x !: poison 0")
	b.wantStates(t, "a", map[string]string{"y": "1"})
}

// A commit whose answer was lost: the same batch again is refused, and a new claim goes on behind it.
func TestLostAnswer(t *testing.T) {
	b := newBench(t, nil, words{entity: "a"})
	batch := b.batch("x 1", "x !")
	b.j.failing, b.j.done = errors.New("timed out"), true
	if err := b.Process(t.Context(), batch); err == nil {
		t.Fatal("no error")
	}
	if err := b.Process(t.Context(), batch); !errors.Is(err, consumers.ErrPosition) {
		t.Fatalf("error is %v", err)
	}
	next, err := b.Claim(t.Context(), tp)
	if err != nil || next != 2 {
		t.Fatalf("claim: %d, %v", next, err)
	}
	b.next = next
	b.process(t, "x 2", "y 1")
	b.wantStates(t, "a", map[string]string{"x": "1", "y": "1"})
	b.wantLetters(t, "x !: poison 1", "x 2: quarantined 1")
}

func TestOwnership(t *testing.T) {
	b := newBench(t, nil, words{entity: "a"})
	b.process(t, "x 1", "x 2")
	for _, from := range []int64{0, 1, 3} {
		batch := consumers.Batch{TopicPartition: tp, From: from, Next: from + 1}
		if err := b.Process(t.Context(), batch); !errors.Is(err, consumers.ErrPosition) {
			t.Errorf("a batch from %d at position 2: %v", from, err)
		}
	}
	if _, err := b.j.Memory.Claim(t.Context(), tp); err != nil {
		t.Fatal(err)
	}
	if err := b.Process(t.Context(), b.batch("x 3")); !errors.Is(err, consumers.ErrFenced) {
		t.Errorf("a replaced owner: %v", err)
	}
	b.Release(t.Context(), tp)
	if err := b.Process(t.Context(), b.batch("x 3")); err == nil {
		t.Error("a released partition was processed")
	}
	b.wantStates(t, "a", map[string]string{"x": "12"})
}

// A sink without a projection of the topic gets the events.
func TestEventsOnly(t *testing.T) {
	b := newBench(t, nil)
	b.process(t, "x 1", "x undecodable", "x 2", "y 1")
	if got := strings.Join(b.j.steps, ", "); got != "send 2, commit" {
		t.Errorf("steps are %s", got)
	}
	if n := len(b.j.Events("orders")); n != 2 {
		t.Errorf("%d events", n)
	}
}

func TestSystemicErrorOfAProjection(t *testing.T) {
	b := newBench(t, nil, words{entity: "a"})
	if err := b.Process(t.Context(), b.batch("x 1", "x systemic")); consumers.Classify(err) != consumers.Systemic {
		t.Errorf("error is %v", err)
	}
	if len(b.j.letters)+len(b.j.commits) != 0 {
		t.Error("something was done")
	}
}

// More quarantined keys than allowed stop the sink before anything is put aside.
func TestLimits(t *testing.T) {
	many := func(n, bad int) []string {
		var events []string
		for i := range n {
			word := " 1"
			if i < bad {
				word = " !"
			}
			events = append(events, fmt.Sprint("k", i, word))
		}
		return events
	}
	for name, c := range map[string]struct {
		config fold.Config
		events []string
		stops  bool
	}{
		"as many as allowed":       {fold.Config{MaxQuarantined: 3}, many(10, 3), false},
		"one more":                 {fold.Config{MaxQuarantined: 3}, many(10, 4), true},
		"none":                     {fold.Config{MaxQuarantined: -1}, many(10, 1), true},
		"the default share":        {fold.Config{}, many(200, 50), false},
		"more than the share":      {fold.Config{}, many(200, 51), true},
		"a small batch":            {fold.Config{}, many(99, 99), false},
		"switched off":             {fold.Config{MaxQuarantinedShare: 1}, many(200, 200), false},
		"more than 1,000 keys":     {fold.Config{MaxQuarantinedShare: 1}, many(1001, 1001), true},
		"records without a key":    {fold.Config{}, append(many(100, 0), slices.Repeat([]string{" undecodable"}, 40)...), true},
		"few of them do not count": {fold.Config{}, append(many(100, 0), slices.Repeat([]string{" undecodable"}, 30)...), false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(cfg *fold.Config) {
				cfg.MaxQuarantined, cfg.MaxQuarantinedShare = c.config.MaxQuarantined, c.config.MaxQuarantinedShare
			}, words{entity: "a"})
			err := b.Process(t.Context(), b.batch(c.events...))
			if c.stops != errors.Is(err, fold.ErrTooManyQuarantined) || c.stops != (consumers.Classify(err) == consumers.Systemic) {
				t.Fatalf("error is %v", err)
			}
			if c.stops && len(b.j.letters)+len(b.j.commits) > 0 {
				t.Error("something was put aside")
			}
		})
	}
}

// The limit counts what is in quarantine, not one batch.
func TestLimitCountsWhatIsThere(t *testing.T) {
	b := newBench(t, func(cfg *fold.Config) { cfg.MaxQuarantined = 2 }, words{entity: "a"})
	b.process(t, "x !", "y !")
	b.process(t, "x 1", "z 1")
	if err := b.Process(t.Context(), b.batch("z !")); !errors.Is(err, fold.ErrTooManyQuarantined) {
		t.Errorf("error is %v", err)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	b := newBench(t, func(cfg *fold.Config) { cfg.Name, cfg.Registerer = "words", reg }, words{entity: "a"})
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 6 {
		t.Errorf("%d series at the start, want 6: %v", n, err)
	}
	b.process(t, "x 1", "x !", "x 2", "y 1")
	want := `
# HELP millrace_fold_dead_letters_total Events put on the dead-letter topic.
# TYPE millrace_fold_dead_letters_total counter
millrace_fold_dead_letters_total{class="poison",sink="words"} 1
millrace_fold_dead_letters_total{class="quarantined",sink="words"} 1
# HELP millrace_fold_quarantined_keys Keys in quarantine in the partitions of this process.
# TYPE millrace_fold_quarantined_keys gauge
millrace_fold_quarantined_keys{sink="words"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "millrace_fold_dead_letters_total", "millrace_fold_quarantined_keys"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestConfig(t *testing.T) {
	j := &journal{Memory: sinktest.NewMemory()}
	for want, cfg := range map[string]fold.Config{
		"Sink":                {DeadLetters: j},
		"DeadLetters":         {Sink: j},
		"MaxQuarantinedShare": {Sink: j, DeadLetters: j, MaxQuarantinedShare: -1},
		`entity "a"`:          {Sink: j, DeadLetters: j, Projections: []fold.Projection{words{entity: "a"}, words{entity: "a"}}},
	} {
		if _, err := fold.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one about %s", err, want)
		}
	}
	b := newBench(t, nil)
	if err := b.Close(); err != nil || !b.j.closed {
		t.Errorf("dead letters are closed: %t, %v", b.j.closed, err)
	}
}
