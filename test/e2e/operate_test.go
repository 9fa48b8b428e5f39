package e2e

import (
	"strings"
	"testing"
)

// Promise 7: what is parked can be looked at, mended and released, or discarded, from any machine, in order and once.
func TestParkedEventsAreShownReleasedAndDiscarded(t *testing.T) {
	t.Parallel()
	s, _, db := realSite(t)
	s.setUp()
	conn := db.Conn(t)
	emit(t, conn, "post.ParcelAccepted", accepted("p", "Kiel"))
	emit(t, conn, "post.ParcelMoved", `{"parcel_id":"p","depot":7,"moved_at":"2026-03-01T12:00:00Z"}`)
	emit(t, conn, "post.ParcelDelivered", delivered("p", "Nobody"))
	type parked struct {
		EventID  string `json:"event_id"`
		Reason   string
		Position int
		Behind   int
		Content  map[string]any
	}
	if said := s.fails(1, "parked", "release", "--all", "--timeout", "1s"); !strings.Contains(said, "no relay of outbox "+s.name+" leads") {
		t.Errorf("%s", said)
	}
	if said := s.fails(2, "parked", "release"); !strings.Contains(said, "say which") {
		t.Errorf("%s", said)
	}
	relay := s.start("relay")
	s.waitStatus("one published, two parked", func(v statusView) bool { return v.Outboxes[0].Seq == 1 && v.Outboxes[0].Parked == 2 })
	list := asJSON[[]parked](s, "parked", "list")
	bad := list[0].EventID
	shown := asJSON[parked](s, "parked", "show", bad)
	if shown.Reason != "body" || shown.Behind != 1 || shown.Content["parcel_id"] != "p" {
		t.Errorf("%+v", shown)
	}
	if text := s.ok("parked", "show", bad); !strings.Contains(text, `"depot": 7`) || !strings.Contains(text, "1 event waits behind it") {
		t.Errorf("%s", text)
	}
	r := s.run("parked", "release", bad)
	if r.code != 1 || !strings.Contains(r.stdout, "1 line stopped") || !strings.Contains(r.stdout, "1 event waits behind it") {
		t.Errorf("status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if said := s.fails(2, "parked", "discard", bad); !strings.Contains(said, "--yes") { // nobody is there to answer
		t.Errorf("%s", said)
	}
	if text := s.ok("parked", "discard", bad, "--yes"); !strings.Contains(text, "1 released, 1 discarded") {
		t.Errorf("%s", text)
	}
	relay.WaitLine(t, `msg="parked events released or discarded"`, patience)
	s.waitStatus("two published, none parked", func(v statusView) bool { return v.Outboxes[0].Seq == 2 && v.Outboxes[0].Parked == 0 })
	if said := s.fails(1, "parked", "show", bad); !strings.Contains(said, "is not parked") {
		t.Errorf("%s", said)
	}
	if r := s.run("parked", "release", bad); r.code != 1 || !strings.Contains(r.stdout, "it is not parked") {
		t.Errorf("status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if code := relay.Stop(t, patience); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
}

// A pause is durable, is told everywhere, and ends with a resume; a drain says when all is published.
func TestAnOutboxIsPausedDrainedAndResumed(t *testing.T) {
	t.Parallel()
	s, _, db := realSite(t)
	s.setUp()
	conn := db.Conn(t)
	if text := s.ok("relay", "pause", "--reason", "a test"); !strings.Contains(text, "is paused by") || !strings.Contains(text, "no relay leads it") {
		t.Errorf("%s", text)
	}
	emit(t, conn, "post.ParcelAccepted", accepted("p", "Kiel"))
	relay := s.start("relay")
	eventually(t, "it to be ready, and to say that it is paused", func() bool {
		return s.ready() == 200 && strings.Contains(s.readyText(), "relay "+s.name+": ok (paused by ")
	})
	if said := s.fails(1, "relay", "drain"); !strings.Contains(said, "paused by") {
		t.Errorf("%s", said)
	}
	type standing struct {
		Seq, Behind int64
		Leader      *struct{ Application string }
		Pause       *struct{ Reason string }
	}
	if v := asJSON[[]standing](s, "relay", "status"); len(v) != 1 || v[0].Seq != 0 || v[0].Behind != 1 || v[0].Leader == nil || v[0].Pause == nil || v[0].Pause.Reason != "a test" {
		t.Errorf("%+v", v)
	}
	if text := s.ok("relay", "status"); !strings.Contains(text, "(a test)") || !strings.Contains(text, "LEADER") {
		t.Errorf("%s", text)
	}
	if text := s.ok("status"); !strings.Contains(text, "outbox "+s.name+" is paused by") || !strings.Contains(text, "(a test)") {
		t.Errorf("%s", text)
	}
	if text := s.ok("relay", "resume"); !strings.Contains(text, "is not paused") {
		t.Errorf("%s", text)
	}
	for _, want := range []string{`msg="outbox paused, nothing is published"`, `reason="a test"`, `msg="outbox resumed"`} {
		relay.WaitLine(t, want, patience)
	}
	if text := s.ok("relay", "resume", "-o", "json"); !strings.Contains(text, `"pause": null`) || !strings.Contains(text, `"led": true`) || strings.Contains(text, "released") {
		t.Errorf("%s", text)
	}
	if text := s.ok("relay", "drain", "--pause"); !strings.Contains(text, "published up to seq 1, and it is paused by") {
		t.Errorf("%s", text)
	}
	s.ok("relay", "resume")
	emit(t, conn, "post.ParcelMoved", moved("p", "d1"))
	if text := s.ok("relay", "drain"); !strings.Contains(text, "published up to seq 2") {
		t.Errorf("%s", text)
	}
	if code := relay.Stop(t, patience); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	if v := asJSON[[]standing](s, "relay", "status"); len(v) != 1 || v[0].Seq != 2 || v[0].Behind != 0 || v[0].Leader != nil || v[0].Pause != nil {
		t.Errorf("%+v", v)
	}
}
