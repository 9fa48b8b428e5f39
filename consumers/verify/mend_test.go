package verify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/consumers/verify"
)

// mend folds keys anew.
func (r *rig) mend(keys ...verify.Broken) []verify.Mended {
	r.t.Helper()
	for i := range keys {
		keys[i].Topic = r.topic
	}
	out, err := verify.Mend(r.t.Context(), r.name, r.kafka, keys, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) broken(out *verify.Result) []verify.Broken {
	return out.BrokenKeys(nil, map[string]string{"counter": r.topic})
}

func TestWhatIsFoldedAnewIsRight(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.fill(60)
		plant := func() {
			wrong := r.state("key-7")
			wrong.Values = []any{int64(1)}
			r.sink.Put("counter", "key-7", wrong)
			r.sink.Drop("counter", "key-8")
			r.sink.Double("counter", "key-9")
			wrong.Version = 3
			r.sink.Put("counter", "strange", wrong)
			r.sink.Put("counter", "key-1", wrong) // which was deleted
		}
		right := r.state("key-7")
		plant()
		before, err := r.sink.Positions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := r.verify(verify.Options{Entities: []string{"counter"}})
		if out.Differences != 5 {
			t.Fatalf("%+v", out.Entities["counter"])
		}
		for range 2 { // done twice it has its effect once
			for _, m := range r.mend(r.broken(out)...) {
				if m.Outcome != consumers.Done || m.Detail != "" {
					t.Errorf("%+v", m)
				}
			}
			r.clean(r.verify(verify.Options{}))
		}
		if got := r.state("key-7"); got.Version != right.Version || got.EventID != right.EventID || got.Values[0] != right.Values[0] {
			t.Errorf("%+v, want %+v", got, right)
		}
		if got := r.state("strange"); got.Exists {
			t.Errorf("%+v", got)
		}
		after, err := r.sink.Positions(t.Context())
		if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("positions %v, before %v, %v", after, before, err)
		}
		// The keys go on.
		r.add(keys(10), 1)
		r.caughtUp()
		r.clean(r.verify(verify.Options{}))
	})
}

func TestARepairWaitsForAProcessAndSurvivesOne(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.fill(30)
		r.end()
		r.sink.Drop("counter", "key-8")
		ctx, cancel := context.WithCancel(t.Context())
		asked := atomic.Bool{}
		_, err := verify.Mend(ctx, r.name, r.kafka, []verify.Broken{{Topic: r.topic, Key: "key-8"}}, func(*consumers.Answer) { asked.Store(true); cancel() })
		if !errors.Is(err, context.Canceled) || !asked.Load() {
			t.Fatalf("nobody runs, and it says %v", err)
		}
		// The first commits are refused, or done and reported as failed.
		r.flaky = &flaky{memory: r.sink, before: 1, after: 1}
		r.start()
		r.until("the key is repaired", func() bool { return r.state("key-8").Exists })
		r.clean(r.verify(verify.Options{}))
		if r.flaky.before+r.flaky.after != 0 {
			t.Errorf("no commit failed: %+v", r.flaky)
		}
	})
}

func TestARepairOfAKeyThatWaits(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.fill(20)
		r.add([]string{"key-3"}, 13)
		r.add([]string{"key-3"}, 2)
		r.caughtUp()
		r.sink.Drop("counter", "key-3")
		if m := r.mend(verify.Broken{Key: "key-3"}); m[0].Outcome != consumers.Done || m[0].Events != 2 {
			t.Errorf("%+v", m)
		}
		if got := r.state("key-3").Values[0]; got != int64(12) {
			t.Errorf("sum %v", got)
		}
		out := r.verify(verify.Options{})
		r.clean(out)
		desk := dlq.New(r.name, r.kafka...)
		all, err := desk.Keys(t.Context(), dlq.Filter{})
		if err != nil || len(all) != 1 || all[0].Letters != 2 || all[0].Asked {
			t.Fatalf("%+v %v", all, err)
		}
		// What was discarded stays out; what comes is applied.
		q := all[0].Request(consumers.DropAll)
		if err := desk.Ask(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		if a, err := desk.Wait(t.Context(), []consumers.Request{q}, nil); err != nil || a[0].Dropped != 2 {
			t.Fatalf("%+v %v", a, err)
		}
		r.add([]string{"key-3"}, 4)
		r.caughtUp()
		r.sink.Drop("counter", "key-3")
		if m := r.mend(verify.Broken{Key: "key-3"}); m[0].Outcome != consumers.Done || m[0].Events != 3 {
			t.Errorf("%+v", m)
		}
		if got := r.state("key-3").Values[0]; got != int64(16) {
			t.Errorf("sum %v", got)
		}
		r.clean(r.verify(verify.Options{}))
		if all, err := desk.Keys(t.Context(), dlq.Filter{}); err != nil || len(all) != 0 {
			t.Errorf("after the repair letters are pending that were discarded: %+v %v", all, err)
		}
	})
}

func TestARepairThatCannotBe(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.fill(20)
		ahead := r.state("key-2")
		ahead.Version += 1000
		r.sink.Put("counter", "key-2", ahead)
		out := r.mend(verify.Broken{Key: "key-2"}, verify.Broken{Key: "nobody"}, verify.Broken{Key: "key-3"})
		if m := out[0]; m.Outcome != consumers.Failed || !strings.Contains(m.Detail, "take that state away") {
			t.Errorf("%+v", m)
		}
		if m := out[1]; m.Outcome != consumers.Nothing || !strings.Contains(m.Detail, "no event") {
			t.Errorf("%+v", m)
		}
		if m := out[2]; m.Outcome != consumers.Done {
			t.Errorf("%+v", m)
		}
		if got := r.state("key-2"); got.Version != ahead.Version {
			t.Errorf("%+v", got)
		}
	})
}

func TestARepairFindsAKeyThatIsElsewhere(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		r.manual = true
		r.fill(20)
		r.sink.Drop("counter", "key-2")
		if m := r.mend(verify.Broken{Key: "key-2"}); m[0].Outcome != consumers.Done || m[0].Events != 2 {
			t.Errorf("%+v", m)
		}
		r.clean(r.verify(verify.Options{}))
	})
}

// flaky is a store of which some commits that replace fail: before they are done, and after.
type memory = sinktest.Memory

type flaky struct {
	*memory
	before, after int
}

var errFlaky = errors.New("connection lost")

func (f *flaky) Commit(ctx context.Context, c fold.Commit) error {
	if !c.Replace {
		return f.memory.Commit(ctx, c)
	}
	if f.before > 0 {
		f.before--
		return errFlaky
	}
	if err := f.memory.Commit(ctx, c); err != nil || f.after == 0 {
		return err
	}
	f.after--
	return errFlaky
}
