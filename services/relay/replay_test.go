package relay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

// replayed runs a replay and returns what it says; the topic is deleted at the end.
func (r *rig) replayed(ctx context.Context, opts relay.ReplayOptions) (relay.Replayed, error) {
	r.t.Helper()
	r.t.Cleanup(func() {
		c, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...))
		if err == nil {
			_, _ = kadm.NewClient(c).DeleteTopics(context.Background(), opts.To)
			c.Close()
		}
	})
	return relay.Replay(ctx, r.config(), opts)
}

// settled waits until the markers of what was committed are written: a replay goes by the cursor that readers see.
func (r *rig) settled() {
	r.t.Helper()
	r.stableEnds(r.t.Context(), relay.CursorTopic(r.name))
	r.stableEnds(r.t.Context(), relay.ParkedTopic(r.name))
}

// inOrder is what a topic holds: the events of each key, in order.
func (r *rig) inOrder(topic string) string {
	r.t.Helper()
	byKey := map[string][]string{}
	for _, rec := range r.committed(topic) {
		byKey[string(rec.Key)] = append(byKey[string(rec.Key)], headers(rec)["ce_id"])
	}
	var keys []string
	for key, ids := range byKey {
		keys = append(keys, key+" "+strings.Join(ids, " "))
	}
	slices.Sort(keys)
	return strings.Join(keys, "\n")
}

// What is retained and was published comes again, in order, marked, and only where no outbox publishes.
func TestReplay(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(nil)
		for n := int64(1); n <= 40; n++ {
			r.emit([]string{"a", "b", "c"}[n%3], n)
		}
		r.unfit("c", 41) // parked, and what follows for its key
		r.emit("c", 42)
		run.until("all to be published or parked", func(s relay.Status) bool { return s.Seq == 40 && s.Parked == 2 })
		a := r.asker()
		r.answer(a)(a.Pause(t.Context(), ""))
		r.emit("a", 43) // not published
		r.settled()
		all, some := harness.Unique("again"), harness.Unique("again")

		dry, err := r.replayed(t.Context(), relay.ReplayOptions{To: all, DryRun: true})
		if err != nil || dry.Sent != 40 || dry.Parked != 2 || !dry.Done {
			t.Fatalf("%+v %v", dry, err)
		}
		if topics, err := kadm.NewClient(r.client()).ListTopics(t.Context()); err != nil || topics.Has(all) {
			t.Errorf("a dry run made the topic, or %v", err)
		}
		did, err := r.replayed(t.Context(), relay.ReplayOptions{To: all})
		if err != nil || did.Sent != 40 || did.Parked != 2 || !did.Done || len(did.Gone) > 0 {
			t.Fatalf("%+v %v", did, err)
		}
		if got, want := r.inOrder(all), r.inOrder(r.topic); got != want {
			t.Errorf("replayed\n%s\npublished\n%s", got, want)
		}
		values := map[string]string{}
		for _, rec := range r.committed(r.topic) {
			values[headers(rec)["ce_id"]] = string(rec.Value)
		}
		for _, rec := range r.committed(all) {
			h := headers(rec)
			if _, seq := h["millrace-seq"]; seq || h["millrace-replayed"] != did.At.Format(time.RFC3339) || h["ce_type"] != "test.Counted" || string(rec.Value) != values[h["ce_id"]] {
				t.Fatalf("%v", h)
			}
		}
		for _, c := range []struct {
			what string
			opts relay.ReplayOptions
			want int64
		}{
			{"a key", relay.ReplayOptions{Key: "a"}, 13}, {"another type", relay.ReplayOptions{Type: "test.Other"}, 0}, {"the type", relay.ReplayOptions{Type: "test.Counted"}, 40},
			{"from now on", relay.ReplayOptions{From: time.Now().Add(time.Minute)}, 0}, {"until an hour ago", relay.ReplayOptions{Until: time.Now().Add(-time.Hour)}, 0},
			{"from an hour ago", relay.ReplayOptions{From: time.Now().Add(-time.Hour)}, 40}, {"ids", relay.ReplayOptions{FromID: 11, UntilID: 20}, 10},
		} {
			c.opts.To, c.opts.DryRun = some, true
			if did, err := r.replayed(t.Context(), c.opts); err != nil || did.Sent != c.want || !did.Done {
				t.Errorf("%s: %+v %v", c.what, did, err)
			}
		}
		for _, topic := range []string{r.topic, relay.CursorTopic(r.name), relay.ParkedTopic(r.name), "__x", "", "no such name"} {
			if _, err := r.replayed(t.Context(), relay.ReplayOptions{To: topic}); !errors.Is(err, relay.ErrReplayTopic) {
				t.Errorf("into %q: %v", topic, err)
			}
		}
		// A topic of the configuration that nothing was published to yet.
		cfg := r.config()
		next := harness.Unique("next")
		cfg.Topics[next] = relay.Topic{}
		if _, err := relay.Replay(t.Context(), cfg, relay.ReplayOptions{To: next, DryRun: true}); !errors.Is(err, relay.ErrReplayTopic) {
			t.Errorf("into a topic of the configuration: %v", err)
		}
		// A topic that was published to, and is not in the configuration any more.
		cfg.Topics = nil
		if _, err := relay.Replay(t.Context(), cfg, relay.ReplayOptions{To: r.topic}); !errors.Is(err, relay.ErrReplayTopic) {
			t.Errorf("into a topic of the cursor: %v", err)
		}
	})
}

// Most events that somebody wants again are older than any timeout.
func TestAReplayOfEventsThatOccurredLongAgo(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(nil)
		for n := 1; n <= 3; n++ {
			r.exec(`insert into outbox.event (topic, key, type, schema_fp, body, occurred_at)
				select $1, 'k', 'test.Counted', fingerprint, jsonb_build_object('key', 'k', 'n', $2::bigint), now() - interval '30 days'
				from outbox.schema where name = 'test.Counted'`, r.topic, n)
		}
		run.untilSeq(3)
		r.stableEnds(t.Context(), relay.CursorTopic(r.name)) // a commit is known before its markers are written
		r.stableEnds(t.Context(), r.topic)
		to := harness.Unique("again")
		did, err := r.replayed(t.Context(), relay.ReplayOptions{To: to})
		if err != nil || did.Sent != 3 || !did.Done {
			t.Fatalf("%+v %v", did, err)
		}
		if got, want := r.inOrder(to), r.inOrder(r.topic); got != want {
			t.Errorf("replayed\n%s\npublished\n%s", got, want)
		}
	})
}

// A replay that was interrupted goes on where it says.
func TestAReplayGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	run := r.run(nil)
	for n := int64(1); n <= 30; n++ {
		r.emit("k", n)
	}
	run.untilSeq(30)
	to := harness.Unique("again")
	ctx, cancel := context.WithCancel(t.Context())
	var at []relay.Replaying
	did, err := r.replayed(ctx, relay.ReplayOptions{To: to, Rate: 10, Progress: func(p relay.Replaying) {
		if at = append(at, p); p.Sent >= 10 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || did.Done || did.Sent != 10 || did.Next != 11 {
		t.Fatalf("%+v %v", did, err)
	}
	if at[0].Total != 30 || at[0].Rate <= 0 {
		t.Errorf("%+v", at[0])
	}
	did, err = r.replayed(t.Context(), relay.ReplayOptions{To: to, FromID: did.Next})
	if err != nil || !did.Done || did.Sent != 20 {
		t.Fatalf("%+v %v", did, err)
	}
	if got, want := r.inOrder(to), r.inOrder(r.topic); got != want {
		t.Errorf("replayed\n%s\npublished\n%s", got, want)
	}
}

// A replay from a time that goes on at a row leaves out what occurred before that time, and tells of nothing gone that it had passed.
func TestAReplayFromATimeGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	run := r.run(nil)
	for n := int64(1); n <= 30; n++ {
		r.emit("k", n)
	}
	run.untilSeq(30)
	// Rows of every other event are dated back: they lie among the others by their ids.
	r.exec(`update outbox.event set occurred_at = now() - interval '1 day' where id % 2 = 0`)
	since, to := time.Now().Add(-time.Hour), harness.Unique("again")
	ctx, cancel := context.WithCancel(t.Context())
	did, err := r.replayed(ctx, relay.ReplayOptions{To: to, From: since, Rate: 5, Progress: func(relay.Replaying) { cancel() }})
	if !errors.Is(err, context.Canceled) || did.Sent != 5 || did.Next != 10 {
		t.Fatalf("%+v %v", did, err)
	}
	r.exec(`select outbox.turn_ring(true)`)
	r.emit("k", 31)
	run.untilSeq(31)
	did, err = r.replayed(t.Context(), relay.ReplayOptions{To: to, From: since, FromID: did.Next})
	if err != nil || !did.Done || did.Sent != 11 {
		t.Errorf("%+v %v", did, err)
	}
	r.exec(`select outbox.empty_leaf(0, pg_current_snapshot(), now() + interval '1 minute')`)
	for id, want := range map[int64]string{0: "[{1 4294967295}]", 11: "[{11 4294967295}]", 1 << 32: "[]"} {
		did, err := r.replayed(t.Context(), relay.ReplayOptions{To: to, From: since, FromID: id, DryRun: true})
		if err != nil || !did.Done || did.Sent != 1 || fmt.Sprint(did.Gone) != want {
			t.Errorf("from row %d: %+v %v", id, did, err)
		}
	}
}

// The bounds of a replay by time: the first is inclusive, the second is not; and the leaves that it need not look at are those that were
// left well before, for a row may be dated later than its leaf was left.
func TestAReplayByTimeHasTheEventsOfThatTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	run := r.run(nil)
	for n := int64(1); n <= 4; n++ {
		r.emit("k", n)
	}
	now := time.Now().Truncate(time.Microsecond)
	then := now.Add(-10 * time.Minute)
	for id, at := range map[int]time.Time{1: then.Add(-time.Microsecond), 2: then, 3: then.Add(time.Microsecond), 4: now.Add(30 * time.Minute)} {
		r.exec(`update outbox.event set occurred_at = $2 where id = $1`, id, at)
	}
	run.untilSeq(4)
	r.exec(`select outbox.turn_ring(true)`)
	r.emit("k", 5)
	run.untilSeq(5)
	look := func(what string, opts relay.ReplayOptions, sent, looked int64, gone string) {
		t.Helper()
		opts.To, opts.DryRun = "elsewhere", true
		did, err := r.replayed(t.Context(), opts)
		if err != nil || !did.Done || did.Sent != sent || did.Looked != looked || fmt.Sprint(did.Gone) != gone {
			t.Errorf("%s: %+v %v", what, did, err)
		}
	}
	look("from then on", relay.ReplayOptions{From: then}, 4, 5, "[]")
	look("until then", relay.ReplayOptions{Until: then}, 1, 5, "[]")
	look("dated later than the leaf was left", relay.ReplayOptions{From: now.Add(20 * time.Minute)}, 1, 5, "[]")
	r.exec(`update outbox.leaf set left_at = now() - interval '3 hours' where leaf = 0`)
	look("a leaf left long before", relay.ReplayOptions{From: now.Add(-time.Hour)}, 1, 1, "[]")
	r.exec(`select outbox.empty_leaf(0, pg_current_snapshot(), now() + interval '1 minute')`)
	look("a leaf left long before, and emptied", relay.ReplayOptions{From: now.Add(-time.Hour)}, 1, 1, "[]")
	look("a leaf emptied since", relay.ReplayOptions{From: now.Add(-4 * time.Hour)}, 1, 1, "[{1 4294967295}]")
}

// Rows that retention takes while they are being replayed are named.
func TestAReplaySaysWhichRowsWereGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	run := r.run(nil)
	for n := int64(1); n <= 30; n++ {
		r.emit("k", n)
	}
	run.untilSeq(30)
	emptied := false
	did, err := r.replayed(t.Context(), relay.ReplayOptions{To: harness.Unique("again"), Rate: 1000, DryRun: true, Progress: func(relay.Replaying) {
		if emptied {
			return
		}
		emptied = true
		r.exec(`select outbox.turn_ring(true)`)
		r.exec(`select outbox.empty_leaf(0, pg_current_snapshot(), now() + interval '1 minute')`)
		r.emit("k", 31)
	}})
	if err != nil || !did.Done || fmt.Sprint(did.Gone) != "[{1 30}]" {
		t.Errorf("%+v %v", did, err)
	}
	r.emit("k", 32)
	run.untilSeq(32)
	for what, opts := range map[string]relay.ReplayOptions{
		"from an id": {FromID: 5}, "from a time": {From: time.Now().Add(-time.Hour)},
	} {
		opts.To, opts.DryRun = "elsewhere", true
		if did, err := r.replayed(t.Context(), opts); err != nil || !did.Done || did.Sent != 2 || len(did.Gone) != 1 || did.Gone[0].To != 1<<32-1 {
			t.Errorf("%s, after it: %+v %v", what, did, err)
		}
	}
}
