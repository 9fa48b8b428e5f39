package fold_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
)

// picky refuses events whose word is "no" while it is in a bad mood, and loses its connection once if asked.
type picky struct {
	*journal
	mood  bool
	fails []error
}

func (p *picky) Commit(ctx context.Context, c fold.Commit) error {
	if len(p.fails) > 0 {
		err := p.fails[0]
		p.fails = p.fails[1:]
		return err
	}
	refused := map[int64]error{}
	for i := range c.Events {
		if p.mood && c.Events[i].Fields()["word"] == "no" {
			refused[c.Events[i].Offset] = errors.New("answers 400")
			break // one at a time
		}
	}
	if len(refused) > 0 {
		return &fold.Rejected{Events: refused}
	}
	return p.journal.Commit(ctx, c)
}

func newPicky(t *testing.T, projections ...fold.Projection) (*bench, *picky) {
	t.Helper()
	p := &picky{journal: &journal{Memory: sinktest.NewMemory(projections...)}, mood: true}
	f, err := fold.New(fold.Config{Sink: p, DeadLetters: p, Projections: projections})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Claim(t.Context(), tp); err != nil {
		t.Fatal(err)
	}
	return &bench{Fold: f, j: p.journal}, p
}

// Promise 7: what a sink will never take does not stop the stream. It goes aside with what stands behind it, whether the sink finds it alone, behind
// what could not be decoded, or at the second try.
func TestWhatTheSinkRejectsIsPutAside(t *testing.T) {
	b, p := newPicky(t, words{entity: "a"})
	p.fails = []error{errors.New("the connection is lost")}
	batch := b.batch("x 1", "bad undecodable", "x no", "y 2", "x 3", "z no", "y 4")
	if err := b.Process(t.Context(), batch); err == nil {
		t.Fatal("the lost connection is not told")
	}
	if err := b.Process(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	b.next = batch.Next
	b.wantStates(t, "a", map[string]string{"x": "1", "y": "24"})
	// Letters that were sent are not sent again, however often the batch is tried.
	b.wantLetters(t, "bad undecodable: poison 1", "x no: poison 2", "x 3: quarantined 2", "z no: poison 5")
	if c := b.j.commits[0]; len(b.j.commits) != 1 || c.Next != 7 || c.Quarantine["x"] != 2 || c.Quarantine["z"] != 5 || c.Quarantine["bad"] != 1 {
		t.Errorf("commits are %+v", b.j.commits)
	}
	b.process(t, "x 5", "y 6")
	b.wantStates(t, "a", map[string]string{"x": "1", "y": "246"})
}

// A redrive stands still at what the sink refuses, as at what cannot be folded, and goes on when it is taken.
func TestARedriveStandsStillAtWhatTheSinkRejects(t *testing.T) {
	b, p := newPicky(t, words{entity: "a"})
	b.process(t, "x 1", "x no", "x 2", "x no", "x 3")
	aside := b.letterEvents()
	redrive := func(drop map[string]int64) consumers.Redriven {
		t.Helper()
		first, marked := b.Quarantined(tp, "x")
		if !marked {
			t.Fatal("x is not quarantined")
		}
		i := slices.IndexFunc(aside, func(ev consumers.Event) bool { return ev.Offset == first })
		out, err := b.Redrive(t.Context(), consumers.Redrive{TopicPartition: tp, Events: aside[i:], Rest: map[string]int64{"x": -1}, DropPoison: drop})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := redrive(nil); out.Applied["x"] != 0 || out.Stuck["x"].Offset != 1 || !strings.Contains(out.Stuck["x"].Reason, "answers 400") {
		t.Errorf("%+v", out)
	}
	if out := redrive(map[string]int64{"x": 2}); out.Dropped["x"] != 1 || out.Applied["x"] != 1 || out.Stuck["x"].Offset != 3 {
		t.Errorf("%+v", out)
	}
	if first, _ := b.Quarantined(tp, "x"); first != 3 {
		t.Errorf("the mark stands at %d", first)
	}
	p.mood = false
	if out := redrive(nil); out.Applied["x"] != 2 || len(out.Stuck) != 0 {
		t.Errorf("%+v", out)
	}
	b.wantStates(t, "a", map[string]string{"x": "12no3"})
}

// letterEvents are the events that were put aside.
func (b *bench) letterEvents() []consumers.Event {
	var all []consumers.Event
	for _, l := range b.j.letters {
		all = append(all, l.Event)
	}
	return all
}
