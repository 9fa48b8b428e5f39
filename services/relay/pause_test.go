package relay_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/services/relay"
)

// A pause holds over restarts and takeovers; the relay is ready, keeps its lock and publishes nothing until it is resumed.
func TestAPauseHoldsOverRestartsUntilItIsResumed(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(nil)
		r.emit("k", 1)
		run.untilSeq(1)
		a := r.asker()
		got := r.answer(a)(a.Pause(t.Context(), "moving"))
		if got.Pause == nil || got.Pause.Reason != "moving" || got.Pause.By == "" || got.Seq != 1 {
			t.Errorf("%+v", got)
		}
		r.emit("k", 2)
		r.row(r.topic, "bad", r.fingerprint(), nil, `{"key": "bad"}`, nil)
		for range 2 {
			run.until("it to say that it is paused", func(s relay.Status) bool {
				return s.State == relay.StateLeading && s.Paused != nil && s.Paused.Reason == "moving"
			})
			if err := run.Ready(); err != nil {
				t.Errorf("a paused relay is not ready: %v", err)
			}
			if leader, err := a.Leader(t.Context()); err != nil || leader == nil || !strings.Contains(leader.Application, r.name) {
				t.Errorf("a paused relay does not lead: %+v %v", leader, err)
			}
			// It was asked, and answered that it does nothing: more than one look later nothing was published.
			if got := r.release(relay.Selection{All: true}); !strings.Contains(got.Refused, "paused by") {
				t.Errorf("%+v", got)
			}
			if got := r.answer(a)(a.Drain(t.Context(), false, "")); !strings.Contains(got.Refused, "paused by") {
				t.Errorf("%+v", got)
			}
			if s := run.Status(); s.Seq != 1 {
				t.Errorf("%+v", s)
			}
			if err := run.stop(); err != nil {
				t.Fatal(err)
			}
			run = r.run(nil)
		}
		if got := r.answer(a)(a.Resume(t.Context())); got.Pause != nil {
			t.Errorf("%+v", got)
		}
		run.until("the rest", func(s relay.Status) bool { return s.Seq == 2 && s.Parked == 1 && s.Paused == nil })
		if got := r.story(r.topic); got != "1 k, 2 k" {
			t.Errorf("published %s", got)
		}
	})
}

// Events may be discarded while the outbox is paused; what waited for them goes when it is resumed.
func TestDiscardingInAPause(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	run := r.run(nil)
	r.row(r.topic, "k", r.fingerprint(), nil, `{"key": "k"}`, nil)
	r.emit("k", 2)
	run.until("two parked events", func(s relay.Status) bool { return s.Parked == 2 })
	a := r.asker()
	r.answer(a)(a.Pause(t.Context(), ""))
	if got := r.discard(false, r.parkedIDs("k")[0]); got.Discarded != 1 || got.Released != 0 || got.Left != 1 || got.Refused != "" {
		t.Errorf("%+v", got)
	}
	if s := run.Status(); s.Seq != 0 || s.Parked != 1 {
		t.Errorf("%+v", s)
	}
	// A start finds what is to be released on the parked topic alone: the request was answered long ago.
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	run = r.run(nil)
	r.answer(a)(a.Resume(t.Context()))
	run.until("the rest of the line", func(s relay.Status) bool { return s.Seq == 1 && s.Parked == 0 })
	if got := r.discard(false, uuid.New()); got.Unknown != 1 {
		t.Errorf("%+v", got)
	}
}

// A drain is answered when everything committed before it is published, whatever a stranger's or a writer's open transaction
// does; with a pause nothing more is published.
func TestADrainWaitsForWhatWasCommittedBefore(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		r.write(load{writers: 4, transactions: 100, keys: 5, seed: 3})
		open, err := r.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer open.Rollback(t.Context())
		if _, err := open.Exec(t.Context(), `select outbox.emit('test.Counted', 'late', '{"key": "late", "n": 1}')`); err != nil {
			t.Fatal(err)
		}
		want := r.rows()
		a := r.asker()
		id, err := a.Drain(t.Context(), true, "upgrade")
		if err != nil {
			t.Fatal(err)
		}
		run := r.run(func(c *relay.Config) { c.PageSize = 50 })
		got := r.answer(a)(id, nil)
		if got.Seq != want || got.Refused != "" || got.Pause == nil || got.Pause.Reason != "upgrade" {
			t.Errorf("%+v, want seq %d", got, want)
		}
		if err := open.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.release(relay.Selection{All: true}); got.Refused == "" {
			t.Errorf("not paused after the drain: %+v", got)
		}
		if s := run.Status(); s.Seq != want {
			t.Errorf("published past the drain: %+v", s)
		}
		r.answer(a)(a.Resume(t.Context()))
		run.untilSeq(want + 1)
		r.checkPublished()
	})
}

// Where no relay leads a request stays, and is carried out by the next.
func TestARequestWaitsForALeader(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	a := r.asker()
	if leader, err := a.Leader(t.Context()); leader != nil || err != nil {
		t.Fatal(leader, err)
	}
	id, err := a.Release(t.Context(), relay.Selection{All: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Wait(ctx, id, func(*relay.Answer) {}); !errors.Is(err, relay.ErrUnanswered) {
		t.Errorf("%v", err)
	}
	r.run(nil)
	if got := r.answer(a)(id, nil); got.Refused != "" || got.Released != 0 {
		t.Errorf("%+v", got)
	}
}
