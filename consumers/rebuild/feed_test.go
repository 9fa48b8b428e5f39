package rebuild

import (
	"context"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
)

// A generation that is built goes on from where it stood when somebody else leads: hours of building are not done again.
func TestABuildGoesOnFromItsPositions(t *testing.T) {
	m := sinktest.NewMemory(sinktest.Projections()...)
	tp := consumers.TopicPartition{Topic: sinktest.Projections()[0].Topic()}
	c, err := m.Claim(t.Context(), tp)
	if err == nil {
		err = m.Commit(t.Context(), fold.Commit{TopicPartition: tp, Epoch: c.Epoch, From: 0, Next: 7})
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := fold.New(fold.Config{Sink: m, Projections: sinktest.Projections(), DeadLetters: &letters{}})
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{f, &Feed{cfg: FeedConfig{Generation: 2, Allowed: func(context.Context) error { return nil }}}}
	if next, err := g.Claim(t.Context(), tp); next != 7 || err != nil {
		t.Errorf("it goes on at %d: %v", next, err)
	}
}

// Promise 8: from the fence on nobody feeds the generation that serves, there and back: readers would see what the other one does not have yet. The one that comes is its leader's to feed.
func TestPromise8_NobodyFeedsWhatServesWhileReadersAreMoved(t *testing.T) {
	for state, want := range map[State]struct {
		live   bool
		beside int
	}{
		Planned: {true, 0}, Building: {true, 2}, CatchingUp: {true, 2}, Verifying: {true, 2}, Refused: {true, 2}, CuttingOver: {false, 2},
	} {
		r := Record{Serving: 1, Rebuild: &Rebuild{Old: 1, New: 2, State: state}}
		if r.Live(1) != want.live || r.Live(2) || r.beside() != want.beside {
			t.Errorf("%s: what serves is fed: %t, what comes by all: %t, by who leads: %d", state, r.Live(1), r.Live(2), r.beside())
		}
	}
	for state, live := range map[State]bool{Soaking: true, CuttingOver: false} {
		r := Record{Serving: 2, Rebuild: &Rebuild{Old: 1, New: 2, State: state, RolledBack: !live}}
		if r.Live(2) != live || r.Live(1) || r.beside() != 1 {
			t.Errorf("%s on the way back: what serves is fed: %t, the former one by all: %t, by who leads: %d", state, r.Live(2), r.Live(1), r.beside())
		}
	}
}
