package relay

import (
	"testing"

	"github.com/google/uuid"
)

// Records of relays before this one had no value: that an event was discarded stood in a header. A release is no discard.
func TestDiscardsOfOlderRelays(t *testing.T) {
	id := uuid.New()
	if d := decodeDiscarded(tombstone("p", id, 7, DoneDiscarded)); d == nil || d.EventID != id || d.Request != 7 {
		t.Errorf("%+v", d)
	}
	for what, r := range map[string]Done{"released": DoneReleased, "nothing said": ""} {
		if d := decodeDiscarded(tombstone("p", id, 7, r)); d != nil {
			t.Errorf("%s: %+v", what, d)
		}
	}
	e := someEvent()
	value, err := park(&e, faultf(ReasonBody, "x"), 1, fakeNow).encode(maxParkedBytes)
	if err != nil {
		t.Fatal(err)
	}
	r := tombstone("p", id, 0, "")
	if r.Value = value; decodeDiscarded(r) != nil {
		t.Error("a parked event passes for discarded")
	}
}

func TestShareOfSumsIsLookedInto(t *testing.T) {
	all := make([]int, sumBuckets)
	for i := range all {
		all[i] = i
	}
	v := newVerification(Config{Outbox: "o"}.WithDefaults(), VerifyOptions{Sample: 1, Examples: 20})
	v.cursor = &cursor{}
	v.total = 100_000_000
	v.dig = newDig(v, all)
	v.dig.judge()
	if v.dig.left == 0 || v.dig.left == sumBuckets || v.out.Differences != int64(v.dig.left) || len(v.out.Notes) != 1 {
		t.Errorf("%d are left, %+v", v.dig.left, v.out)
	}
}
