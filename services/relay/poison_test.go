package relay_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/services/relay"
)

func (r *rig) onPoison(p relay.Poison) func(*relay.Config) {
	return func(c *relay.Config) {
		c.PageSize = 4
		c.Topics = map[string]relay.Topic{r.topic: {Partitions: 3, OnPoison: p}}
	}
}

// park-event: the event is parked by itself and its key goes on, also after a restart; its release comes when it comes.
func TestPromise7ParkEventLetsTheKeyGoOn(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(r.onPoison(relay.ParkEvent))
		r.emit("k", 1)
		r.unfit("k", 2)
		r.unfit("k", 3)
		r.emit("k", 4)
		run.untilSeq(2)
		if err := run.stop(); err != nil {
			t.Fatal(err)
		}
		run = r.run(r.onPoison(relay.ParkEvent))
		r.emit("k", 5)
		run.untilSeq(3)
		all := r.parked()
		if len(all) != 2 || !all[0].Alone || all[0].Reason != relay.ReasonSchema || all[1].Reason != relay.ReasonSchema {
			t.Fatalf("%+v", all)
		}
		r.mend()
		if got := r.discard(false, all[0].EventID); got.Discarded != 1 || got.Released != 0 {
			t.Errorf("%+v", got)
		}
		if got := r.release(relay.Selection{Topic: r.topic, Key: ptr("k")}); got.Released != 1 {
			t.Errorf("%+v", got)
		}
		if got := r.story(r.topic); got != "1 k, 2 k, 3 k, 4 k" || run.Status().Parked != 0 {
			t.Errorf("published %s", got)
		}
	})
}

// stop: what comes before the event is published, nothing behind it, and the relay says what to do.
func TestPoisonPolicyStopPublishesNothingPastTheEvent(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		r.emit("a", 1)
		r.emit("b", 1)
		r.row(r.topic, "k", r.fingerprint(), nil, `{"key": "k", "n": "many"}`, nil)
		r.emit("c", 1)
		for range 2 { // a start changes nothing
			run := r.run(r.onPoison(relay.StopAtPoison))
			err := run.wait()
			var stop *relay.StopError
			if !errors.Is(err, relay.ErrPoison) || !errors.As(err, &stop) || !strings.Contains(stop.Remedy, "on_poison") ||
				!strings.Contains(err.Error(), "body, field n") || !strings.Contains(err.Error(), `key "k"`) {
				t.Fatalf("%v", err)
			}
			if got := r.story(r.topic); got != "1 a, 2 b" && got != "2 b, 1 a" {
				t.Errorf("published %s", got)
			}
		}
		run := r.run(nil) // the operator has decided
		run.untilSeq(3)
		if s := run.Status(); s.Parked != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A registry that stays away parks what needs it, in order, and what it held up goes by itself when it answers: also after a
// restart, and by another relay.
func TestPromise7ARegistryThatStaysAwayDoesNotStopTheStream(t *testing.T) {
	t.Parallel()
	reg := &memoryRegistry{}
	r := newRig(t, fakeBroker(t), reg)
	grace := func(c *relay.Config) { c.RegistryGrace, c.PageSize = 50*time.Millisecond, 3 }
	r.publishOne("known", 1, 1)
	reg.set(func(string, string) error { return registry.ErrUnavailable })
	r.mend() // writers use the new schema from now on, which the registry never saw
	run := r.run(grace)
	fp := r.fingerprint()
	for n := int64(1); n <= 10; n++ {
		for k := range 4 {
			r.emit(fmt.Sprintf("k%d", k), n)
		}
	}
	r.row(r.topic, "known", fp, nil, `{"key": "known", "n": 2}`, nil) // its id is on the cursor topic
	run.until("one published, the others parked", func(s relay.Status) bool { return s.Seq == 2 && s.Parked == 40 && s.Restarts == 0 })
	for _, p := range r.parked() {
		if p.Position == 1 && p.Reason != relay.ReasonRegistry || p.Position > 1 && p.Reason != relay.ReasonBehind {
			t.Errorf("%+v", p)
		}
	}
	if err := run.Ready(); err == nil || !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
	got := r.release(relay.Selection{All: true})
	if got.Released != 0 || got.Stopped != 4 || got.Events[0].Reason != relay.ReasonRegistry {
		t.Errorf("%+v", got)
	}
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	// The registry is away at the start as well.
	run = r.run(grace)
	r.emit("k9", 1)
	run.until("one more parked", func(s relay.Status) bool { return s.Parked == 41 })
	reg.set(nil)
	run.until("all published", func(s relay.Status) bool { return s.Seq == 43 && s.Parked == 0 && s.Restarts == 0 })
	eventually(t, "the trouble to pass", run.Ready)
	r.checkPublished()
}

// An event that only waits for the registry is at no fault: whatever the topic's policy, its key waits with it, in order, and goes by
// itself.
func TestPromise7WaitingForTheRegistryIsNoFault(t *testing.T) {
	t.Parallel()
	for _, policy := range []relay.Poison{relay.ParkEvent, relay.StopAtPoison} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			reg := &memoryRegistry{}
			reg.set(func(string, string) error { return registry.ErrUnavailable })
			r := newRig(t, fakeBroker(t), reg)
			run := r.run(func(c *relay.Config) { r.onPoison(policy)(c); c.RegistryGrace = time.Millisecond })
			for n := int64(1); n <= 5; n++ { // more than a page
				r.emit("k", n)
			}
			run.until("five parked events", func(s relay.Status) bool { return s.Parked == 5 })
			for i, p := range r.parked() {
				if p.Alone || p.Position != int64(i+1) || i == 0 && p.Reason != relay.ReasonRegistry || i > 0 && p.Reason != relay.ReasonBehind {
					t.Errorf("%+v", p)
				}
			}
			reg.set(nil)
			run.untilSeq(5)
			if got := r.story(r.topic); got != "1 k, 2 k, 3 k, 4 k, 5 k" {
				t.Errorf("published %s", got)
			}
			r.checkPublished()
		})
	}
}

// What was parked for the registry and is refused by it, when it answers, stays parked for that.
func TestARegistryThatAnswersMayStillRefuse(t *testing.T) {
	t.Parallel()
	reg := &memoryRegistry{}
	reg.set(func(string, string) error { return registry.ErrUnavailable })
	r := newRig(t, fakeBroker(t), reg)
	run := r.run(func(c *relay.Config) { c.RegistryGrace = time.Millisecond })
	r.emit("k", 1)
	run.until("a parked event", func(s relay.Status) bool { return s.Parked == 1 })
	reg.set(func(string, string) error { return fmt.Errorf("%w: no", registry.ErrInvalid) })
	eventually(t, "the reason to change", func() error {
		if p := r.parked(); len(p) != 1 || p[0].Reason != relay.ReasonRefused {
			return fmt.Errorf("%+v", p[0])
		}
		return nil
	})
	reg.set(nil)
	if got := r.release(relay.Selection{Reason: relay.ReasonRefused}); got.Released != 1 {
		t.Errorf("%+v", got)
	}
}
