package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// What was published is written once more into a topic of its own, from a time or a row on, by key and by type; no relay runs.
func TestPublishedEventsAreReplayed(t *testing.T) {
	t.Parallel()
	s, broker, db := realSite(t)
	s.setUp()
	conn := db.Conn(t)
	emit(t, conn, "post.ParcelAccepted", accepted("p", "Kiel"))
	emit(t, conn, "post.ParcelMoved", moved("p", "d1"))
	emit(t, conn, "post.ParcelAccepted", accepted("q", "Mainz"))
	relay := s.start("relay")
	s.waitStatus("three published", func(v statusView) bool { return v.Outboxes[0].Seq == 3 })
	if code := relay.Stop(t, patience); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	to := s.topic("again")
	broker.DeleteAtEnd(t, to)
	replay := func(args ...string) []string { return slices.Concat([]string{"relay", "replay", "--to", to}, args) }
	if said := s.fails(2, replay()...); !strings.Contains(said, "--from TIME|ID") {
		t.Errorf("%s", said)
	}
	if said := s.fails(2, replay("--from", "yesterday")...); !strings.Contains(said, "neither the id of a row nor a time") {
		t.Errorf("%s", said)
	}
	if said := s.fails(1, "relay", "replay", "--from", "start", "--to", s.topic("depots")); !strings.Contains(said, "is a topic of outbox "+s.name) {
		t.Errorf("%s", said)
	}
	type replayed struct {
		Sent int64
		Done bool
		At   string
	}
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	for _, c := range []struct {
		args string
		want int64
	}{
		{"--from start", 3}, {"--from 2", 2}, {"--from 2 --until 2", 1}, {"--from start --key q", 1}, {"--from start --type post.ParcelMoved", 1},
		{"--from start --type post.ParcelMoved --key q", 0}, {"--from " + at(-time.Hour), 3}, {"--from " + at(time.Hour), 0}, {"--from start --until " + at(-time.Hour), 0},
	} {
		if did := asJSON[replayed](s, replay(append(strings.Fields(c.args), "--dry-run")...)...); did.Sent != c.want || !did.Done {
			t.Errorf("%s: %+v, want %d", c.args, did, c.want)
		}
	}
	if text := s.ok(replay("--from", "start")...); !strings.Contains(text, "3 events replayed into "+to) {
		t.Errorf("%s", text)
	}
}
