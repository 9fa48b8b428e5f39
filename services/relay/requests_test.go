package relay_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/services/relay"
)

// asker puts requests to the rig's relay.
func (r *rig) asker() *relay.Asker {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.dsn)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	a := relay.NewAsker(conn, "outbox")
	a.Every = 20 * time.Millisecond
	return a
}

// answer waits for the answer to a request that was put.
func (r *rig) answer(a *relay.Asker) func(id int64, err error) *relay.Answer {
	return func(id int64, err error) *relay.Answer {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(r.t.Context(), 60*time.Second)
		defer cancel()
		got, err := a.Wait(ctx, id, func(*relay.Answer) {})
		if err != nil {
			r.t.Fatal(err)
		}
		return got
	}
}

func (r *rig) release(s relay.Selection) *relay.Answer {
	r.t.Helper()
	a := r.asker()
	return r.answer(a)(a.Release(r.t.Context(), s))
}

func (r *rig) discard(hold bool, events ...uuid.UUID) *relay.Answer {
	r.t.Helper()
	a := r.asker()
	return r.answer(a)(a.Discard(r.t.Context(), events, hold, "not wanted"))
}

// replaceDefault makes another schema of countedSchema's, with the same binary form.
func replaceDefault(text, mark string) string {
	return strings.Replace(text, `"default": ""`, fmt.Sprintf(`"default": %q`, mark), 1)
}

// laterSchema is one that the outbox does not hold before mend.
func (r *rig) laterSchema() string { return replaceDefault(countedSchema(r.topic), "later") }

// unfit writes an event of a schema that the outbox does not hold yet.
func (r *rig) unfit(key string, n int64) { r.t.Helper(); r.unfitPadded(r.laterSchema(), key, n, "") }

func (r *rig) unfitPadded(text, key string, n int64, pad string) {
	r.t.Helper()
	s, err := schemas.Parse(text)
	if err != nil {
		r.t.Fatal(err)
	}
	codec, err := avro.New(s.Text)
	if err != nil {
		r.t.Fatal(err)
	}
	payload, err := codec.AppendEncode(nil, map[string]any{"key": key, "n": n, "pad": pad})
	if err != nil {
		r.t.Fatal(err)
	}
	r.row(r.topic, key, s.Fingerprint, payload, nil, nil)
}

// mend stores the schema that was missing.
func (r *rig) mend() { r.t.Helper(); r.writer(r.laterSchema()) }

// parkedIDs are the parked events, by key and in order.
func (r *rig) parkedIDs(key string) []uuid.UUID {
	r.t.Helper()
	var ids []uuid.UUID
	for _, p := range r.parked() {
		if p.Key == key {
			ids = append(ids, p.EventID)
		}
	}
	return ids
}

// story is what a topic holds, as "seq key".
func (r *rig) story(topic string) string {
	r.t.Helper()
	r.committed(relay.CursorTopic(r.name)) // every marker is written
	var all []string
	for _, rec := range r.committed(topic) {
		all = append(all, headers(rec)["millrace-seq"]+" "+string(rec.Key))
	}
	return strings.Join(all, ", ")
}

// What is released is published in order, behind what its key had, with the next versions; each event once.
func TestPromise7AReleasedLineComesInOrder(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(func(c *relay.Config) { c.PageSize = 3 })
		r.emit("k", 1)
		r.unfit("k", 2)
		for n := int64(3); n <= 9; n++ {
			r.emit("k", n)
		}
		r.emit("other", 1)
		run.until("eight parked events", func(s relay.Status) bool { return s.Parked == 8 && s.Seq == 2 })

		still := r.release(relay.Selection{All: true}) // nothing is mended
		if still.Released != 0 || still.Stopped != 1 || len(still.Events) != 1 || still.Events[0].Reason != relay.ReasonSchema ||
			still.Events[0].Detail == "" || still.Events[0].Behind != 7 {
			t.Errorf("%+v", still)
		}
		r.mend()
		last := r.parkedIDs("k")[7]
		got := r.release(relay.Selection{Events: []uuid.UUID{last}}) // its line, from the head
		if got.Released != 8 || got.Stopped+got.Unknown != 0 || len(got.Events) != 8 || got.Events[7].EventID != last || got.Events[7].Seq != 10 {
			t.Errorf("%+v", got)
		}
		r.emit("k", 10)
		run.untilSeq(11)
		r.checkPublished()
		if left := r.parked(); len(left) != 0 {
			t.Errorf("%d events are still parked", len(left))
		}
		if s := run.Status(); s.Parked != 0 || s.Restarts != 0 {
			t.Errorf("%+v", s)
		}
		again := r.release(relay.Selection{Events: []uuid.UUID{last}})
		if again.Released != 0 || again.Unknown != 1 || again.Events[0].Done != relay.DoneUnknown {
			t.Errorf("%+v", again)
		}
	})
}

// A line that stops at a second bad event says why, keeps what is behind it, and says the same after a restart.
func TestPromise7AReleaseStopsAtTheNextBadEvent(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(nil)
		r.unfit("k", 1)
		r.emit("k", 2)
		r.row(r.topic, "k", r.fingerprint(), nil, `{"key": "k", "n": "many"}`, nil)
		r.emit("k", 4)
		run.until("four parked events", func(s relay.Status) bool { return s.Parked == 4 })
		r.mend()
		bad := r.parkedIDs("k")[2]
		got := r.release(relay.Selection{Topic: r.topic, Key: ptr("k")})
		if got.Released != 2 || got.Stopped != 1 || got.Events[2].EventID != bad || got.Events[2].Reason != relay.ReasonBody || got.Events[2].Field != "n" || got.Events[2].Behind != 1 {
			t.Errorf("%+v", got)
		}
		if err := run.stop(); err != nil {
			t.Fatal(err)
		}
		run = r.run(nil)
		r.emit("k", 5)
		run.until("three parked events", func(s relay.Status) bool { return s.Parked == 3 })
		var reasons []string
		for _, p := range r.parked() {
			reasons = append(reasons, fmt.Sprintf("%s %d", p.Reason, p.Position))
		}
		if want := "[body 3 behind 4 behind 5]"; fmt.Sprint(reasons) != want {
			t.Errorf("%v, want %s", reasons, want)
		}
		// Discarding it lets the rest of the line go.
		got = r.discard(false, bad)
		if got.Discarded != 1 || got.Released != 2 || got.Stopped != 0 {
			t.Errorf("%+v", got)
		}
		if got, want := r.story(r.topic), "1 k, 2 k, 3 k, 4 k"; got != want {
			t.Errorf("published %s, want %s", got, want)
		}
	})
}

// Discarding drops exactly what is named, also in the middle of a line and also twice; with hold the rest stays.
func TestPromise7DiscardDropsExactlyTheNamedEvents(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(func(c *relay.Config) { c.PageSize = 2 })
		r.row(r.topic, "k", r.fingerprint(), nil, `{"key": "k"}`, nil)
		for n := int64(2); n <= 7; n++ {
			r.emit("k", n)
		}
		run.until("seven parked events", func(s relay.Status) bool { return s.Parked == 7 })
		ids := r.parkedIDs("k")
		got := r.discard(true, ids[0], ids[3], ids[0], uuid.New())
		if got.Discarded != 2 || got.Released != 0 || got.Unknown != 1 {
			t.Errorf("%+v", got)
		}
		if err := run.stop(); err != nil {
			t.Fatal(err)
		}
		run = r.run(func(c *relay.Config) { c.PageSize = 2 })
		r.emit("other", 1)
		run.untilSeq(1)
		if p := r.parked(); len(p) != 5 || p[0].Reason != relay.ReasonHeld || run.Status().Parked != 5 {
			t.Errorf("%d parked, the first %+v", len(p), p[0])
		}
		// More than a page of them: what is behind one of them must not go before the others are dropped.
		got = r.discard(false, ids[1], ids[2], ids[4], ids[5])
		if got.Discarded != 4 || got.Released != 1 {
			t.Errorf("%+v", got)
		}
		published := r.committed(r.topic)
		if len(published) != 2 {
			t.Fatalf("%d records in the topic", len(published))
		}
		if last := headers(published[len(published)-1])["ce_id"]; last != ids[6].String() && headers(published[0])["ce_id"] != ids[6].String() {
			t.Errorf("the event that was not discarded is not in the topic")
		}
	})
}

// The contents of an event that was too large for the parked topic come from its row; once that is gone, the answer says so.
func TestPromise7OmittedContentsComeFromTheTable(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	if _, err := r.admin().CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": ptr("compact"), "max.message.bytes": ptr("20000")}, relay.ParkedTopic(r.name)); err != nil {
		t.Fatal(err)
	}
	run := r.run(nil)
	large := strings.Repeat("x", 50_000)
	r.row(r.topic, "gone", r.fingerprint(), nil, `{"key": "gone", "m": "`+large+`"}`, nil)
	r.unfitPadded(r.laterSchema(), "k", 1, large)
	run.until("two parked events", func(s relay.Status) bool { return s.Parked == 2 })
	for _, p := range r.parked() {
		if !p.Omitted {
			t.Fatalf("%+v", p)
		}
	}
	r.mend()
	r.exec(`delete from outbox.event where key = 'gone'`)
	got := r.release(relay.Selection{All: true})
	if got.Released != 1 || got.Stopped != 1 {
		t.Fatalf("%+v", got)
	}
	if all := r.committed(r.topic); len(all) != 1 || !strings.Contains(string(all[0].Value), large) {
		t.Errorf("%d records", len(all))
	}
	if p := r.parked(); len(p) != 1 || p[0].Reason != relay.ReasonGone || !strings.Contains(p[0].Detail, "discarded") {
		t.Errorf("%+v", p)
	}
}

// A name that was shortened for the parked topic is not the event's own: it must not become the key of a record.
func TestPromise7AShortenedKeyIsNotPublished(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	run := r.run(nil)
	key := strings.Repeat("k", 9000)
	r.row(r.topic, key, r.fingerprint(), nil, `{"key": "x", "n": 1}`, nil)
	run.until("a parked event", func(s relay.Status) bool { return s.Parked == 1 })
	got := r.release(relay.Selection{All: true})
	if got.Released != 0 || got.Stopped != 1 || got.Events[0].Reason != relay.ReasonKey {
		t.Errorf("%+v", got)
	}
}

func TestARequestThatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.run(nil)
	a := r.asker()
	var id int64
	if err := r.pool.QueryRow(t.Context(), `insert into outbox.request (kind, args) values ('release', '{"all": 7}') returning id`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	if got := r.answer(a)(id, nil); got.Refused == "" || got.Released != 0 {
		t.Errorf("%+v", got)
	}
}

// A relay on tables that know no requests publishes all the same, and takes requests when they come.
func TestARelayWithoutTheTablesOfRequestsPublishes(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.exec(`alter table outbox.request rename to elsewhere`)
	run := r.run(nil)
	r.emit("k", 1)
	run.untilSeq(1)
	if s := run.Status(); s.Restarts != 0 {
		t.Errorf("%+v", s)
	}
}

func ptr(s string) *string { return &s }
