package e2e

import (
	"slices"
	"strings"
	"testing"
)

// Promise 7: a bad event never stops the stream. It is parked with its key's later events behind it, in order, visible, and every
// other key goes on.
func TestABadEventIsParkedWithItsKeyAndNothingElseWaits(t *testing.T) {
	t.Parallel()
	s, _, db := realSite(t)
	s.setUp()
	conn := db.Conn(t)
	emit(t, conn, "post.ParcelAccepted", accepted("good-1", "Bremen"))
	emit(t, conn, "post.ParcelAccepted", accepted("bad", "Kiel"))
	emit(t, conn, "post.ParcelMoved", `{"parcel_id":"bad","depot":7,"moved_at":"2026-03-01T12:00:00Z"}`)
	emit(t, conn, "post.ParcelDelivered", delivered("bad", "Nobody"))
	emit(t, conn, "post.ParcelMoved", moved("good-1", "d1"))
	emit(t, conn, "post.ParcelAccepted", accepted("good-2", "Mainz"))
	// Wrong inside: a field of a record within, and a number that is no decimal of the schema's scale.
	emit(t, conn, "post.ParcelAccepted", `{"parcel_id":"bad-2","to":{"street":"x","city":["no"]},"weight_g":1,"postage":"1.00","size":"SMALL","accepted_at":"2026-03-01T10:00:00Z"}`)
	emit(t, conn, "post.ParcelAccepted", `{"parcel_id":"bad-3","to":{"street":"x","city":"y"},"weight_g":1,"postage":"1.005","size":"SMALL","accepted_at":"2026-03-01T10:00:00Z"}`)
	emit(t, conn, "post.ParcelAccepted", `{"parcel_id":"bad-4","to":{"street":"x","city":"y"},"weight_g":1,"postage":"1.00","size":"HUGE","accepted_at":"2026-03-01T10:00:00Z"}`)
	emit(t, conn, "post.ParcelAccepted", `{"parcel_id":"bad-5","to":{"street":"x","city":"y"},"weight_g":1,"postage":"1.00","size":"SMALL","accepted_at":"yesterday"}`)

	up := s.start("up")
	up.WaitLine(t, "msg=started", patience)
	v := s.waitStatus("four are published and applied, six parked", func(v statusView) bool {
		return caughtUp(4)(v) && v.Outboxes[0].Parked == 6
	})
	if v.Outboxes[0].Name != s.name {
		t.Errorf("%+v", v)
	}
	golden(t, "parked", s.ok("parked", "list"))
	if text := s.ok("parked", "list", "--limit", "2"); !strings.Contains(text, "2 of 6 parked events are shown: 5 body, 1 behind. --limit 0 shows all") || strings.Contains(text, "bad-2") {
		t.Errorf("the first two:\n%s", text)
	}
	if text := s.ok("parked", "list", "--reason", "behind", "--limit", "0"); strings.Count(text, "\n") != 2 {
		t.Errorf("those behind:\n%s", text)
	}
	if text := s.ok("parked", "list", "--reason", "gone"); !strings.Contains(text, "no such event of outbox "+s.name+" is parked") {
		t.Errorf("none is gone:\n%s", text)
	}
	if said := s.fails(2, "parked", "list", "--reason", "headless"); !strings.Contains(said, "none of body, headers") {
		t.Errorf("no reason:\n%s", said)
	}
	golden(t, "parked-status", s.ok("status"))
	type parked struct {
		Key, Reason, Field string
		Position           int
	}
	var got []parked
	for _, p := range asJSON[[]parked](s, "parked", "list") {
		if p.Key == "bad" {
			got = append(got, p)
		}
	}
	if want := []parked{{"bad", "body", "depot", 1}, {"bad", "behind", "", 2}}; !slices.Equal(got, want) {
		t.Errorf("the key's parked events are %v, not %v", got, want)
	}
	if got := s.sql("select _key, status from silver.parcel order by 1"); !slices.Equal(got, []string{"bad accepted", "good-1 moving", "good-2 accepted"}) {
		t.Errorf("the warehouse holds %q", got)
	}
	up.WaitLine(t, "event parked", patience)

	// Parked is parked: also after a restart, and for events that come later.
	up.Stop(t, patience)
	emit(t, conn, "post.ParcelMoved", moved("bad", "d2"))
	emit(t, conn, "post.ParcelMoved", moved("good-2", "d2"))
	again := s.start("up")
	again.WaitLine(t, "msg=started", patience)
	s.waitStatus("one more published, one more parked", func(v statusView) bool { return caughtUp(5)(v) && v.Outboxes[0].Parked == 7 })
	if got := s.sql("select _key, depot from silver.parcel where depot is not null order by 1"); !slices.Equal(got, []string{"good-1 d1", "good-2 d2"}) {
		t.Errorf("the warehouse holds %q", got)
	}
	if code := again.Stop(t, patience); code != 0 {
		t.Errorf("up ended with %d", code)
	}
}
