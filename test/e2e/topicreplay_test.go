package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// A range of a topic is copied while the command is killed again and again: the same command goes on, and in the end each event is there once.
func TestACopyOfATopicGoesOnAfterKill9(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s, broker, db := realSite(t)
	s.setUp()
	conn := db.Conn(t)
	want := map[string]int{}
	for i := range 240 {
		id := fmt.Sprintf("p%d", i%30)
		emit(t, conn, "post.ParcelAccepted", accepted(id, fmt.Sprint(i)))
		want[id]++
	}
	relay := s.start("relay", "--listen", "127.0.0.1:0")
	s.waitStatus("all published", func(v statusView) bool { return v.Outboxes[0].Seq == 240 })
	if code := relay.Stop(t, patience); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	to := s.topic("again")
	broker.DeleteAtEnd(t, to, "__millrace.replay."+to)
	if said := s.fails(2, "replay", "--topic", s.topic("parcels")); !strings.Contains(said, "--since TIME|OFFSET") {
		t.Errorf("%s", said)
	}
	if said := s.fails(1, "replay", "--topic", s.topic("depots"), "--since", "start", "--into", s.topic("parcels")); !strings.Contains(said, "is a topic of outbox "+s.name) {
		t.Errorf("%s", said)
	}
	if said := s.ok("replay", "--topic", s.topic("parcels"), "--since", "start", "--into", to, "--dry-run"); !strings.Contains(said, "240 records to be copied (dry run: nothing was written)") {
		t.Errorf("%s", said)
	}
	args := []string{"replay", "--topic", s.topic("parcels"), "--since", "start", "--into", to, "--rate", "40"}
	for range 4 {
		p := s.start(args...)
		select {
		case <-p.Done():
		case <-time.After(time.Duration(400+random.IntN(700)) * time.Millisecond):
			p.Kill(t)
		}
	}
	type result struct {
		Done         bool
		Before, Sent int64
	}
	did := asJSON[result](s, append(args[:len(args)-2], "--rate", "5000")...)
	if !did.Done || did.Before+did.Sent != 240 {
		t.Errorf("%+v", did)
	}
	got := map[string]int{}
	for _, r := range readCommitted(t, broker, to, 240) {
		got[string(r.Key)]++
	}
	for id, n := range want {
		if got[id] != n {
			t.Errorf("key %s: %d copies, want %d", id, got[id], n)
		}
	}
}
