package bench

import (
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/rebuild"
)

func TestALiveLagIsTheAgeOfTheOldestEventThatIsNotApplied(t *testing.T) {
	began := time.Unix(100, 0)
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	l := &liveTraffic{at: map[int32]int64{}, waiting: map[int32][]acked{0: {{10, at(0)}, {11, at(1)}, {12, at(2)}}, 1: {{7, at(1)}}}}
	l.look(at(3), map[int32]int64{0: 11, 1: 7})
	l.look(at(4), map[int32]int64{}) // it tells nothing: nothing has moved
	l.look(at(5), map[int32]int64{0: 13, 1: 7})
	l.look(at(6), map[int32]int64{0: 13, 1: 8})
	l.reads = []liveRead{{at(3), 5}, {at(4), 9}, {at(9), 80}}
	w := l.between(at(3), at(6))
	for i, want := range []float64{0, 2, 3, 4} {
		if w.seconds[i] != want {
			t.Errorf("lags %v, want 0, 2, 3, 4", w.seconds)
			break
		}
	}
	if w.events[3] != 3 || w.events[0] != 0 || w.still != 2*time.Second || w.slowest != 9 || len(w.reads) != 2 {
		t.Errorf("%+v", w)
	}
}

func TestTheRateOfARebuildIsTakenWhereSomethingWasLeft(t *testing.T) {
	b := &rebuilding{since: map[rebuild.State]time.Time{}}
	look := func(s int, events int64) {
		t.Helper()
		if err := b.look(&rebuild.Rebuild{State: rebuild.Building, Progress: rebuild.Progress{Events: events, Total: 100, At: time.Unix(int64(s), 0)}}, 0); err != nil {
			t.Fatal(err)
		}
	}
	look(1, 0)
	if _, _, err := b.built(); err == nil {
		t.Error("a rate of nothing")
	}
	look(2, 10)
	look(3, 10)
	look(4, 60)
	look(5, 100)
	first, end, err := b.built()
	if err != nil || first.total != 10 || end.total != 60 || end.at.Sub(first.at) != 2*time.Second {
		t.Errorf("from %+v to %+v, %v", first, end, err)
	}
	if err := b.look(&rebuild.Rebuild{State: rebuild.Refused, Reason: "they differ"}, 0); err == nil {
		t.Error("a rebuild that is refused goes on")
	}
}
