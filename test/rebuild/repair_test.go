package rebuild

import (
	"context"
	"fmt"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/test/harness"
)

// Promise 4: a process that is killed while it repairs leaves a key as it was or as it must be, and nothing else changed; the next process carries the request out, and it has its effect once.
func TestPromise4_KilledWhileItRepairs(t *testing.T) {
	t.Parallel()
	for _, kind := range some(t, 2, kinds...) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind, "")
			r.fill(600)
			r.start()
			r.ready()
			r.stop()
			const key = "key-07"
			r.spoil(key)
			r.startCrashing("repair-folded")
			r.caughtUp()
			asked := harness.Start(t, harness.Command{Path: harness.Binary(t), Args: []string{"-c", "millrace.yaml", "repair", r.name, "--key", key, "--timeout", "5m"}, Dir: r.dir,
				Name: "millrace repair", Env: []string{"MILLRACE_CONFIG="}})
			r.killedAt("repair-folded")
			if !r.spoiled(key) {
				t.Error("it was killed before the store was to have it, and the store has it")
			}
			r.startCrashing("repair-replaced")
			r.killedAt("repair-replaced")
			if r.spoiled(key) && kind != "bleve" { // which writes down a moment later what it shows
				t.Error("it was killed when the store was to have it, and the store does not")
			}
			r.startCrashing("")
			if code := asked.Wait(t, patience); code != 0 {
				t.Errorf("millrace repair ended with %d:\n%s\nthe sink said:\n%s", code, asked.Output(), r.log())
			}
			r.ok("repair", r.name, "--key", key) // done twice it has its effect once
			r.ok("verify", r.name)
			r.fill(60)
			r.caughtUp()
			r.stop()
			r.holds(1, 2)
		})
	}
}

// killedAt waits until the process has killed itself.
func (r *rig) killedAt(point string) {
	r.t.Helper()
	p := r.process()
	p.WaitLine(r.t, "crash point "+point, patience)
	if code := p.Wait(r.t, patience); code != -1 {
		r.t.Fatalf("at %s the process ended with %d, and not by its own hand:\n%s", point, code, p.Output())
	}
}

// spoil has the store of the stopped sink hold something else of a key, at the version that it has.
func (r *rig) spoil(key string) {
	r.t.Helper()
	r.stopped(func(ctx context.Context, s fold.Sink) error {
		tp := consumers.TopicPartition{Topic: r.topic, Partition: r.home(key)}
		claim, err := s.Claim(ctx, tp)
		if err != nil {
			return err
		}
		held, err := s.Load(ctx, "account", []string{key})
		if err != nil || !held[key].Exists {
			return fmt.Errorf("%+v %w", held[key], err)
		}
		wrong := fold.Change{Key: key, Stored: held[key], Existed: true}
		wrong.State = projection.State{}
		return s.Commit(ctx, fold.Commit{TopicPartition: tp, Epoch: claim.Epoch, From: claim.Next, Next: claim.Next, Replace: true, Changes: map[string][]fold.Change{"account": {wrong}}})
	})
}

// spoiled says whether the store holds the key as spoil left it; all others must be as they were.
func (r *rig) spoiled(key string) (is bool) {
	r.t.Helper()
	truth := r.now()
	keys := make([]string, 0, len(truth))
	for k := range truth {
		keys = append(keys, k)
	}
	r.stopped(func(ctx context.Context, s fold.Sink) error {
		held, err := s.Load(ctx, "account", keys)
		for _, k := range keys {
			if st := held[k]; k == key {
				is = !st.Exists
			} else if !st.Exists || st.Version != truth[k].seq {
				r.t.Errorf("%s is %+v, want %+v", k, st, truth[k])
			}
		}
		return err
	})
	return is
}

// stopped does something with the store of the sink, which does not run.
func (r *rig) stopped(f func(context.Context, fold.Sink) error) {
	r.t.Helper()
	s := r.open(1)
	err := f(context.Background(), s)
	if closed := s.Close(); err == nil {
		err = closed
	}
	if err != nil {
		r.t.Fatal(err)
	}
}
