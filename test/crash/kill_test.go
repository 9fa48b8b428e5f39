package crash

import (
	"math/rand/v2"
	"testing"
)

// killsEach is how often each process is killed while it works, at least; more deaths come on top while they start.
const killsEach = 5

// Promises 1 to 4: nothing invented, nothing lost; order; exactly once in Kafka; exactly once in effect in every sink - over kill -9
// of the relay and of each sink at random moments of a run.
func TestKilledAtRandomNothingIsLostDoubledOrOutOfOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServers(t))
	victims := []*role{w.role("relay", "relay")}
	for _, s := range sinkNames {
		victims = append(victims, w.role(s, "sink", w.sink(s)))
	}
	w.shop.open()
	for _, v := range victims {
		v.start()
	}
	c := &chaos{w: w, rng: rand.New(rand.NewPCG(w.rng.Uint64(), 2)), victims: victims, each: killsEach}
	c.run()
	for _, v := range victims {
		t.Logf("%s: killed %d times at work, %d times while it started", v.name, v.kills, v.early)
	}
	w.finish()
	if t.Failed() {
		return // the proof has enough to say
	}
	w.plantDifferences()
	w.stop()
}
