package relay

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
)

// ringOf is a ring in generation 10, so in leaf 2: each leaf was left an hour after the one before it, weighs 100 bytes and
// holds rows of the transactions up to ten times its generation.
func ringOf(leaves int) *store.Ring {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	r := &store.Ring{Now: now, Generation: 10}
	for n := range leaves {
		left := now.Add(-time.Duration(n) * time.Hour)
		l := store.Leaf{Entered: left.Add(-time.Hour), Left: left, Bytes: 100, NewestXid: uint64(10*(10-n)) + 5}
		if n == 0 {
			l.Left = time.Time{}
		}
		r.Leaves[r.Before(n)] = l
	}
	return r
}

func TestRetentionPlan(t *testing.T) {
	published := store.Snapshot{Xmin: 200, Xmax: 200}
	none := func(int) int { return 0 }
	for _, c := range []struct {
		name    string
		policy  Retention
		leaves  int
		last    store.Snapshot
		pinned  func(int) int
		empty   []int
		turn    bool
		delayed string
	}{
		{"nothing is due", Retention{Age: 9 * time.Hour}, 8, published, none, nil, false, ""},
		{"the current leaf is old enough", Retention{Age: 6 * time.Hour}, 6, published, none, nil, true, ""},
		{"the oldest leaf is old enough", Retention{Age: 390 * time.Minute}, 8, published, none, []int{3}, false, ""},
		{"several are", Retention{Age: 5 * time.Hour}, 8, published, none, []int{3, 4, 5}, true, ""},
		{"the table is too large", Retention{Size: 606}, 8, published, none, []int{3, 4}, false, ""},
		{"and the current leaf large enough", Retention{Size: 600}, 8, published, none, []int{3, 4}, true, ""},
		{"it is just not too large", Retention{Size: 800}, 8, published, none, nil, false, ""},
		{"what comes first counts", Retention{Age: 6 * time.Hour, Size: 1 << 40}, 8, published, none, []int{3, 4}, true, ""},
		{"not published by the cursor", Retention{Age: 5 * time.Hour}, 8, store.Snapshot{Xmin: 40, Xmax: 40}, none, []int{3}, true, "leaf 4 holds events that are not published yet"},
		{"nothing published", Retention{Age: time.Hour}, 8, store.Snapshot{}, none, nil, true, "leaf 3 holds events that are not published yet"},
		{"held by parked events", Retention{Age: 6 * time.Hour}, 8, published, func(leaf int) int { return leaf / 4 }, []int{3}, true,
			"leaf 4 holds 1 parked events whose contents are in the table only: release or discard them"},
		{"an outbox without events is left alone", Retention{Age: time.Hour}, 0, published, none, nil, false, ""},
		{"everything stays", Retention{}, 8, published, none, nil, false, ""},
		{"for ever", Retention{Age: -1}, 8, published, none, nil, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.policy.plan(ringOf(c.leaves), c.last, c.pinned)
			if !slices.Equal(got.empty, c.empty) || got.turn != c.turn || got.delayed != c.delayed {
				t.Errorf("%+v, want %v, %t, %q", got, c.empty, c.turn, c.delayed)
			}
		})
	}
}

// A parked event whose contents are in the table only keeps its leaf, from before its transaction is committed; others,
// and those let go, do not.
func TestPinsKeepTheirLeaf(t *testing.T) {
	b := newBench()
	var p pins
	b.framer.pins = &p
	e := someEvent()
	e.ID = 3<<32 + 9
	e.Payload = []byte{0xff} // not Avro of the schema: parked whole, or published; in neither case pinned
	framed(t, b, e)
	if p.in(3) != 0 {
		t.Error("an event that needs no row is held")
	}
	e.EventID = uuid.New()
	e.Payload = make([]byte, maxParkedBytes)
	framed(t, b, e)
	if p.in(3) != 1 || p.in(2) != 0 {
		t.Errorf("%d held in leaf 3, %d in leaf 2, want 1 and 0", p.in(3), p.in(2))
	}
	p.drop(e.EventID)
	if p.in(3) != 0 {
		t.Error("an event is held after it was let go")
	}
	p.hold(&Parked{EventID: e.EventID, Row: 1, Omitted: true})
	p.clear()
	if p.in(0) != 0 {
		t.Error("an event is held after the start")
	}
}
