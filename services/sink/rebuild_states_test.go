package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/test/harness"
)

// memory is a kind of sink, ~memory, whose stores are in memory: the servers by their path.
var memory sync.Map

func init() {
	kinds["~memory"] = kind{role: Warehouse, needs: "path", bronze: true, serves: "sql",
		open: func(cfg Config, _ Parts, projections []fold.Projection, _ *slog.Logger) (backend, error) {
			server, _ := memory.Load(cfg.Path)
			m, err := server.(*sinktest.MemoryServer).Open(max(cfg.generation, 1), projections...)
			if err != nil {
				return backend{}, err
			}
			if on, ok := tapped.Load(cfg.Path); ok {
				return backend{sink: on.(*taps).on(m, max(cfg.generation, 1))}, nil
			}
			return backend{sink: m}, nil
		}}
}

// vault is a bank on a broker of its own, whose sink keeps everything in memory.
type vault struct {
	*bank
	cluster *kfake.Cluster
	server  *sinktest.MemoryServer
	cfg     Config
}

func newVault(t *testing.T) *vault {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "accounts"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	b := &bank{t: t, kafka: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}, topic: "accounts", name: harness.Unique("vault")}
	if b.cl, err = kgo.NewClient(b.kafka...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.cl.Close)
	v := &vault{bank: b, cluster: cluster, server: sinktest.NewMemoryServer(), cfg: Config{Kind: "~memory", Path: b.name}}
	memory.Store(b.name, v.server)
	return v
}

// generation opens a generation beside the sink.
func (v *vault) generation(n int, more string) *sinktest.Memory {
	v.t.Helper()
	m, err := v.server.Open(n, v.declare(more)[0])
	if err != nil {
		v.t.Fatal(err)
	}
	return m
}

// applied waits until a generation has everything.
func (v *vault) applied(m *sinktest.Memory) {
	v.t.Helper()
	adm := kadm.NewClient(v.cl)
	eventually(v.t, "everything is applied", func() error {
		at, err := m.Positions(v.t.Context())
		if err != nil {
			return err
		}
		lags, err := consumers.Lags(v.t.Context(), adm, at, v.topic)
		for _, l := range lags {
			if l.Lag > 0 {
				return fmt.Errorf("%+v", l)
			}
		}
		return err
	})
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for err := f(); err != nil; err = f() {
		if time.Now().After(deadline) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (v *vault) recorded() {
	v.t.Helper()
	v.until("the first generation is recorded", func(rec rebuild.Record) bool { return rec.Generations[1] != nil })
}

// refused asks for what must not be done, and returns why not.
func (v *vault) refused(action rebuild.Action, o *rebuild.Options) string {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), time.Minute)
	defer cancel()
	a, err := rebuild.Open(v.name, v.kafka...).Ask(ctx, rebuild.Request{Action: action, Options: o})
	if err != nil || a.OK || a.Reason == "" {
		v.t.Fatalf("%s: %+v %v", action, a, err)
	}
	return a.Reason
}

func (v *vault) over(outcome string) rebuild.Record {
	v.t.Helper()
	return v.until(outcome, func(rec rebuild.Record) bool {
		return rec.Rebuild == nil && rec.Last != nil && rec.Last.Outcome == outcome
	})
}

// Promise 8: equal in every column whose declaration did not change. A row that somebody has changed behind the sink's back refuses the swap, with its key; readers see what they saw.
func TestPromise8_ADifferenceThatNoDeclarationMadeRefusesTheSwap(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(300)
	v.run(v.cfg, v.declare(""))
	old := v.generation(1, "")
	v.applied(old)
	wrong := old.States("account")["account-7"]
	wrong.Values = []any{"somebody else"}
	old.Put("account", "account-7", wrong)
	v.recorded()
	v.ask(rebuild.Start, nil)
	b := v.inState(rebuild.Refused).Rebuild
	e := b.Comparison.Entities["account"]
	if b.Comparison.Acceptable || e.Different != 1 || e.Differences[0].Key != "account-7" || b.Reason == "" {
		t.Errorf("%+v %+v", b, e)
	}
	if why := v.refused(rebuild.Accept, nil); !strings.Contains(why, "not for acceptance") {
		t.Error(why)
	}
	if v.server.Serving() != 1 {
		t.Error("readers were moved")
	}
	v.ask(rebuild.Abort, nil)
	rec := v.over("aborted")
	if rec.Serving != 1 || len(rec.Generations) != 1 || len(v.server.Generations()) != 1 {
		t.Errorf("%+v %v", rec, v.server.Generations())
	}
}

// Promise 8: a changed declaration is rolled out by a rebuild. Its differences are shown by column and wait to be accepted; until then, and after a rollback, the store goes on by the declarations it was
// built by.
func TestPromise8_AChangedDeclarationIsAcceptedAndRolledBack(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(300)
	first := v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	first.end()

	const more = ", total: event.amount"
	s := v.run(v.cfg, v.declare(more))
	v.open(50)
	v.applied(v.generation(1, ""))
	eventually(t, "the sink says that a declaration has changed", func() error {
		if n := s.Note(); !strings.Contains(n, "the declaration of account has changed: millrace rebuild --plan "+v.name) {
			return errors.New(n)
		}
		return s.Ready()
	})
	v.ask(rebuild.Start, &rebuild.Options{Digests: map[string]string{"account": v.declare(more)[0].Digest()}})
	b := v.inState(rebuild.Refused).Rebuild
	if e := b.Comparison.Entities["account"]; !b.Comparison.Acceptable || len(e.Changed) != 1 || e.Changed[0].Column != "total" || len(e.Changed[0].Examples) == 0 {
		t.Errorf("%+v", e)
	}
	v.ask(rebuild.Accept, nil)
	v.inState(rebuild.Soaking)
	v.open(50)
	v.applied(v.generation(2, more))
	v.applied(v.generation(1, "")) // it follows
	if row := v.server.Read("account")["account-3"]; len(row.Values) != 2 {
		t.Errorf("readers see %v", row)
	}
	v.ask(rebuild.Rollback, nil)
	v.over("rolled-back")
	if row := v.server.Read("account")["account-3"]; len(row.Values) != 1 {
		t.Errorf("readers see %v", row)
	}
	s.end()
	s = v.run(v.cfg, v.declare(more)) // a start after it: the record knows
	v.open(10)
	v.applied(v.generation(1, ""))
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
}

// Promise 8: recorded decisions about dead letters are repeated. What was dropped is left out, what waits is quarantined without a second letter; a bad event that nobody has decided about fails the
// rebuild and nothing else.
func TestPromise8_WhatWasDecidedAboutBadEventsIsRepeated(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(100)
	v.bad("account-1")
	v.bad("account-2")
	v.open(100)
	v.run(v.cfg, v.declare(""))
	old := v.generation(1, "")
	v.applied(old)
	v.settle(dlq.Filter{Key: "account-1"})
	before := v.letters()
	v.recorded()
	v.ask(rebuild.Start, nil)
	b := v.inState(rebuild.Soaking).Rebuild
	if !b.Comparison.Equal {
		t.Errorf("%+v", b.Comparison.Entities["account"])
	}
	if after := v.letters(); after != before {
		t.Errorf("%d letters, before %d", after, before)
	}
	v.ask(rebuild.Finish, nil)
	v.over("done")
	v.open(50) // account-2 waits still, in the generation that serves now
	v.applied(v.generation(2, ""))
	if after := v.letters(); after <= before {
		t.Errorf("%d letters, before %d: what came behind a quarantined key is not put aside", after, before)
	}
}

// bad writes an event that nobody can decode.
func (v *vault) bad(key string) {
	v.t.Helper()
	v.seq++
	r := &kgo.Record{Topic: v.topic, Key: []byte(key), Value: []byte("nothing that was framed"), Headers: []kgo.RecordHeader{{Key: "millrace-seq", Value: fmt.Append(nil, v.seq)}}}
	if err := v.cl.ProduceSync(v.t.Context(), r).FirstErr(); err != nil {
		v.t.Fatal(err)
	}
}

// settle drops the first event of a key that was put aside, and has the others applied.
func (v *vault) settle(of dlq.Filter) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), time.Minute)
	defer cancel()
	desk := dlq.New(v.name, v.kafka...)
	keys, err := desk.Keys(ctx, of)
	if err != nil || len(keys) != 1 {
		v.t.Fatalf("%v %v", keys, err)
	}
	ask := keys[0].Request(consumers.DropFirst)
	if err := desk.Ask(ctx, ask); err != nil {
		v.t.Fatal(err)
	}
	if answers, err := desk.Wait(ctx, []consumers.Request{ask}, nil); err != nil || answers[0].Outcome != consumers.Done {
		v.t.Fatalf("%+v %v", answers[0], err)
	}
}

// letters counts the records of the dead-letter topic.
func (v *vault) letters() (n int) {
	v.t.Helper()
	if err := consumers.ScanLetters(v.t.Context(), v.kafka, v.name, func(consumers.Letter) error { n++; return nil }); err != nil {
		v.t.Fatal(err)
	}
	return n
}

// An event that the new declaration cannot apply, and the old one could, fails the rebuild: nothing is put aside, and what serves goes on.
func TestPromise8_ABadEventThatNobodyDecidedAboutFailsTheRebuild(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(100)
	first := v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	first.end()
	s := v.run(v.cfg, v.declare(", part: 100 / (event.amount - 42)"))
	v.recorded()
	eventually(t, "the sink runs", s.Ready)
	v.ask(rebuild.Start, nil)
	b := v.inState(rebuild.Failed).Rebuild
	if !strings.Contains(b.Reason, "account-42") || v.letters() != 0 {
		t.Errorf("%q, %d letters", b.Reason, v.letters())
	}
	v.open(10)
	v.applied(v.generation(1, ""))
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	v.ask(rebuild.Abort, nil)
	v.over("aborted")
}

// Promise 8: where the log does not reach back any more, what the sink keeps fills in; a sink that keeps nothing says so, and a hole is refused.
func TestPromise8_BronzeFillsInWhereTheLogDoesNotReachBack(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(300)
	v.run(v.cfg, v.declare(""))
	old := v.generation(1, "")
	v.applied(old)
	v.recorded()
	at, err := old.Positions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cut := kadm.Offsets{}
	for tp, end := range at {
		cut.AddOffset(tp.Topic, tp.Partition, end-5, -1)
	}
	if _, err := kadm.NewClient(v.cl).DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	v.open(50)
	v.ask(rebuild.Start, &rebuild.Options{From: rebuild.FromBronze})
	b := v.inState(rebuild.Soaking).Rebuild
	if !b.Comparison.Equal {
		t.Errorf("%+v", b.Comparison.Entities["account"])
	}
	mine, theirs := len(v.generation(2, "").Events(v.topic)), len(old.Events(v.topic))
	if mine != theirs || mine != 350 {
		t.Errorf("%d events are kept, before %d", mine, theirs)
	}
	if a, b := v.generation(2, "").States("account"), old.States("account"); len(a) != len(b) || !maps.EqualFunc(a, b, func(x, y fold.Stored) bool { return x.Version == y.Version }) {
		t.Errorf("%v and %v", a, b)
	}
}

// A rebuild can wait, and go on; and keeps to its rate.
func TestARebuildIsPausedAndResumed(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(6000) // so many that one batch does not bring it near the end
	v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	if why := v.refused(rebuild.Pause, nil); why != "no rebuild is under way" {
		t.Error(why)
	}
	v.ask(rebuild.Start, &rebuild.Options{Rate: 500})
	v.ask(rebuild.Pause, nil)
	b := v.until("it is paused", func(rec rebuild.Record) bool { return rec.Rebuild != nil && rec.Rebuild.Paused }).Rebuild
	if b.State == rebuild.Soaking {
		t.Error("a rebuild of 6000 events at 500 a second is over at once")
	}
	if why := v.refused(rebuild.Start, nil); !strings.Contains(why, "under way already") {
		t.Error(why)
	}
	if why := v.refused(rebuild.Rollback, nil); !strings.Contains(why, "abort it") {
		t.Error(why)
	}
	v.ask(rebuild.Resume, nil)
	v.inState(rebuild.Soaking)
	v.ask(rebuild.Finish, nil)
	rec := v.over("done")
	if rec.Serving != 2 || v.server.Serving() != 2 || len(v.server.Generations()) != 1 {
		t.Errorf("%+v, %d serves of %v", rec, v.server.Serving(), v.server.Generations())
	}
}
