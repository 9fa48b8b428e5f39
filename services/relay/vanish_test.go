package relay_test

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/services/relay"
)

// Promise 1: a stranger truncates a leaf whose rows were committed and not published, while nothing is being published and no window
// holds them. The relay stops and says so; started again it goes on with the rest.
func TestPromise1ALeafTruncatedBeforeItWasPublishedIsNoticed(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	run := r.run(nil)
	r.emit("k", 1)
	run.untilSeq(1)

	// What is published may go: that is the table's owner's business.
	run.until("the row to be counted as published", func(s relay.Status) bool { return s.Backlog == 0 && !s.Measured.IsZero() })
	r.exec(`truncate outbox.event_0`)
	measured := run.Status().Measured
	run.until("two more looks", func(s relay.Status) bool { return s.Measured.Sub(measured) > 500e6 })
	r.emit("k", 2)
	run.untilSeq(2)

	a := r.asker()
	r.answer(a)(a.Pause(t.Context(), "the topic is being moved"))
	r.emit("k", 3)
	r.emit("k", 4)
	run.until("both to be seen", func(s relay.Status) bool { return s.Backlog == 2 })
	measured = run.Status().Measured
	run.until("a look that begins after that", func(s relay.Status) bool { return s.Measured.After(measured) })
	if err := run.Ready(); err != nil {
		t.Fatal(err)
	}
	r.exec(`truncate outbox.event_0`)
	err := run.wait()
	if !errors.Is(err, store.ErrVanished) {
		t.Fatalf("the relay ended with %v", err)
	}
	t.Logf("stopped: %v", err)
	if s := run.Status(); s.State != relay.StateStopped || s.Reason != err.Error() || s.Seq != 0 && s.Seq != 2 {
		t.Errorf("%+v", s)
	}

	run = r.run(nil)
	r.emit("k", 5)
	r.answer(a)(a.Resume(t.Context()))
	run.untilSeq(3)
	if got := r.story(r.topic); got != "1 k, 2 k, 3 k" {
		t.Errorf("published %s", got)
	}
}
