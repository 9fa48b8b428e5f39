package store

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

func TestRequestsAreTakenInOrderAndAnsweredOnce(t *testing.T) {
	_, conn := newOutbox(t)
	ctx := t.Context()
	first, err := Ask(ctx, conn, "", RequestRelease, map[string]bool{"all": true}, "me@here", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Ask(ctx, conn, "", RequestDrain, nil, "me@here", ""); err != nil {
		t.Fatal(err)
	}
	look := func(atHand int64) Requests {
		t.Helper()
		all, err := LookForRequests(ctx, conn, "", atHand)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	got := look(0)
	if got.Pause != nil || len(got.Switches) != 0 || got.Work == nil || got.Work.ID != first || got.Work.Kind != RequestRelease ||
		string(got.Work.Args) != `{"all": true}` || got.Work.By != "me@here" || got.Work.At.IsZero() || got.Work.Committed.IsZero() {
		t.Errorf("%+v", got.Work)
	}
	if got := look(first); got.Work.ID != first || got.Work.Args != nil {
		t.Errorf("the arguments of the request at hand are read again: %+v", got.Work)
	}
	if err := Report(ctx, conn, "", first, []byte(`{"released": 1}`)); err != nil {
		t.Fatal(err)
	}
	for _, result := range []string{`{"released": 2}`, `{"released": 3}`} {
		if err := Answer(ctx, conn, "", first, []byte(result), "", ""); err != nil {
			t.Fatal(err)
		}
	}
	asked, err := LookUp(ctx, conn, "", first)
	if err != nil || !asked.Done || string(asked.Progress) != `{"released": 1}` || string(asked.Result) != `{"released": 2}` {
		t.Errorf("%+v %v: an answer was changed", asked, err)
	}
	if got := look(0); got.Work.Kind != RequestDrain {
		t.Errorf("%+v", got.Work)
	}
}

func TestAPauseIsOfWhoPausedFirstAndEndsWithAResume(t *testing.T) {
	_, conn := newOutbox(t)
	ctx := t.Context()
	for _, by := range []string{"first", "second"} {
		if _, err := Ask(ctx, conn, "", RequestPause, nil, by, "because"); err != nil {
			t.Fatal(err)
		}
	}
	all, err := LookForRequests(ctx, conn, "", 0)
	if err != nil || all.Pause == nil || all.Pause.By != "first" || all.Pause.Reason != "because" || all.Pause.Since.IsZero() || len(all.Switches) != 2 || all.Work != nil {
		t.Errorf("%+v %v", all, err)
	}
	for _, id := range all.Switches {
		if err := Answer(ctx, conn, "", id, []byte(`{}`), "", ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Ask(ctx, conn, "", RequestResume, nil, "third", ""); err != nil {
		t.Fatal(err)
	}
	all, err = LookForRequests(ctx, conn, "", 0)
	if err != nil || all.Pause != nil || len(all.Switches) != 1 {
		t.Errorf("%+v %v", all, err)
	}
	id, err := Ask(ctx, conn, "", RequestDrain, nil, "fourth", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := Answer(ctx, conn, "", id, []byte(`{}`), "fourth", "drained"); err != nil {
		t.Fatal(err)
	}
	if all, err := LookForRequests(ctx, conn, "", 0); err != nil || all.Pause == nil || all.Pause.By != "fourth" {
		t.Errorf("a drain did not leave the outbox paused: %+v %v", all, err)
	}
}

// The rights that 0003 names are enough, and tables without them, or none, are told from trouble.
func TestTheRightsOfRequests(t *testing.T) {
	_, conn := newOutbox(t)
	name := strings.ReplaceAll(harness.Unique("role"), "-", "_")
	relay, operator := name+"_relay", name+"_operator"
	for _, role := range []string{relay, operator} {
		exec(t, conn, fmt.Sprintf(`create role %s; grant usage on schema outbox to %[1]s`, role))
		t.Cleanup(func() {
			if _, err := conn.Exec(context.Background(), fmt.Sprintf(`reset role; drop owned by %s; drop role %[1]s`, role)); err != nil {
				t.Error(err)
			}
		})
	}
	as := func(role string) { exec(t, conn, `reset role`); exec(t, conn, `set role `+role) }
	as(relay)
	if _, err := LookForRequests(t.Context(), conn, "", 0); !NoRequests(err) {
		t.Errorf("without rights: %v", err)
	}
	exec(t, conn, `reset role`)
	exec(t, conn, fmt.Sprintf(`grant select, update on outbox.request to %s; grant select, insert on outbox.pause to %[1]s;
		grant select on all tables in schema outbox to %s; grant insert on outbox.request to %[2]s; grant insert, delete on outbox.pause to %[2]s`, relay, operator))
	as(operator)
	id, err := Ask(t.Context(), conn, "", RequestPause, nil, "me", "")
	if err != nil {
		t.Fatal(err)
	}
	as(relay)
	if all, err := LookForRequests(t.Context(), conn, "", 0); err != nil || len(all.Switches) != 1 {
		t.Fatal(all, err)
	}
	if err := Answer(t.Context(), conn, "", id, []byte(`{}`), "me", ""); err != nil {
		t.Fatal(err)
	}
	as(operator)
	if _, err := Ask(t.Context(), conn, "", RequestResume, nil, "me", ""); err != nil {
		t.Fatal(err)
	}
	if asked, err := LookUp(t.Context(), conn, "", id); err != nil || !asked.Done {
		t.Error(asked, err)
	}
	if _, err := LookForRequests(t.Context(), conn, "nowhere", 0); !NoRequests(err) {
		t.Errorf("no tables: %v", err)
	}
}

func TestWhoLeads(t *testing.T) {
	db, conn := newOutbox(t)
	if s, err := WhoLeads(t.Context(), conn, ""); s != nil || err != nil {
		t.Fatal(s, err)
	}
	leader := db.Conn(t)
	exec(t, leader, `set application_name = 'the leader'`)
	if _, ok, err := TryLead(t.Context(), leader, ""); err != nil || !ok {
		t.Fatal(ok, err)
	}
	s, err := WhoLeads(t.Context(), conn, "")
	if err != nil || s == nil || s.Application != "the leader" || s.PID != leader.PgConn().PID() || s.Since.IsZero() {
		t.Errorf("%+v %v", s, err)
	}
	if s, err := WhoLeads(t.Context(), conn, "other"); s != nil || err != nil {
		t.Error("another outbox's leader is taken for this one's", s, err)
	}
}

func TestARowIsReadByItsIDAndEvent(t *testing.T) {
	_, conn := newOutbox(t)
	fill(t, conn, "k", 2)
	var id int64
	var event [16]byte
	if err := conn.QueryRow(t.Context(), `select id, event_id from outbox.event order by id desc limit 1`).Scan(&id, &event); err != nil {
		t.Fatal(err)
	}
	e, ok, err := ReadEvent(t.Context(), conn, "", id, event)
	if err != nil || !ok || e.ID != id || e.Key != "k" || e.EventID != event || len(e.Payload) != 8 {
		t.Errorf("%+v %v %v", e, ok, err)
	}
	if _, ok, err := ReadEvent(t.Context(), conn, "", id, [16]byte{1}); ok || err != nil {
		t.Error("another event has the id, and was taken for it", err)
	}
	if _, ok, err := ReadEvent(t.Context(), conn, "", id+1, event); ok || err != nil {
		t.Error(ok, err)
	}
}
