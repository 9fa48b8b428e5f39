package crash

import (
	"fmt"
	"testing"
	"time"
)

// takeovers is how often the leader is lost.
const takeovers = 6

// takeoverPatience is when a takeover counts as failed. What is expected is 5 s; how long each took is logged.
const takeoverPatience = time.Minute

// Promises 3 and 4: exactly once, across takeovers. Of two relays the leader is killed, or frozen and woken when the other has taken
// over; of two processes of the cache's sink one is frozen until the group has given its partitions to the other.
func TestStandbyTakesOverFromALeaderThatWasKilledOrFrozen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServers(t))
	relays := []*role{w.role("relay-1", "relay"), w.role("relay-2", "relay")}
	caches := []*role{w.role("cache-1", "sink", w.sink("cache")), w.role("cache-2", "sink", w.sink("cache"))}
	w.role("sinks", "sink", w.sink("warehouse"), w.sink("search"))
	w.shop.open()
	for _, r := range w.roles {
		r.start()
	}
	for i := range takeovers {
		leader, standby := w.waitForLeader(relays)
		w.waitForStandby(standby)
		time.Sleep(time.Duration(w.rng.Int64N(int64(500 * time.Millisecond)))) // the moment is to be random
		if i%3 == 2 {
			w.freezeRelay(leader, standby)
			w.freezeSink(caches[i%2], caches[1-i%2])
		} else {
			w.replace(leader, standby)
		}
	}
	w.finish()
	w.stop()
}

// waitForLeader waits until one relay leads and has published something since.
func (w *world) waitForLeader(relays []*role) (leader, standby *role) {
	w.t.Helper()
	eventually(w.t, "for a leader at work", takeoverPatience, func() (bool, string) {
		w.shop.mustTrade()
		for i, r := range relays {
			r.mustRun()
			if r.worked() {
				leader, standby = r, relays[1-i]
				return true, ""
			}
		}
		return false, "none of the relays publishes"
	})
	return leader, standby
}

func (w *world) waitForStandby(r *role) {
	w.t.Helper()
	eventually(w.t, "for "+r.name+" to stand by", takeoverPatience, func() (bool, string) {
		r.mustRun()
		now := r.relay()
		return now.State == "standby", fmt.Sprintf("%+v", now)
	})
}

// replace kills the leader, waits for the other to take over, and starts another standby.
func (w *world) replace(leader, standby *role) {
	w.t.Helper()
	at := leader.relay()
	leader.kill()
	w.waitForTakeover(standby, "kill -9 of "+leader.name, at)
	leader.start()
}

// freezeRelay stops the leader in its tracks, as a long pause would, and wakes it when the other publishes: what it was about to do
// must not count any more.
func (w *world) freezeRelay(leader, standby *role) {
	w.t.Helper()
	at := leader.relay()
	leader.process.Freeze(w.t)
	w.waitForTakeover(standby, "freezing "+leader.name, at)
	leader.process.Thaw(w.t)
	leader.first = nil
	w.waitForStandby(leader)
}

// waitForTakeover waits until standby has committed a transaction after those of the leader that was lost.
func (w *world) waitForTakeover(standby *role, after string, lost report) {
	w.t.Helper()
	began := time.Now()
	eventually(w.t, "for "+standby.name+" to take over", takeoverPatience, func() (bool, string) {
		w.shop.mustTrade()
		standby.mustRun()
		now := standby.relay()
		return now.State == "leading" && now.T > lost.T, fmt.Sprintf("%+v", now)
	})
	w.t.Logf("%s at transaction %d: %s publishes %v later", after, lost.T, standby.name, time.Since(began).Round(10*time.Millisecond))
}

// freezeSink does the same to a sink that shares its partitions with another process.
func (w *world) freezeSink(zombie, other *role) {
	w.t.Helper()
	w.waitForPartitions(zombie, func(n int) bool { return n > 0 })
	zombie.process.Freeze(w.t)
	began := time.Now()
	w.waitForPartitions(other, func(n int) bool { return n == partitions*len(topicNames) })
	w.t.Logf("freezing %s: %s has all partitions %v later", zombie.name, other.name, time.Since(began).Round(10*time.Millisecond))
	zombie.process.Thaw(w.t)
	w.waitForPartitions(zombie, func(n int) bool { return n > 0 && n < partitions*len(topicNames) })
}

// waitForPartitions waits until a sink's process has as many partitions as it should.
func (w *world) waitForPartitions(r *role, enough func(int) bool) {
	w.t.Helper()
	eventually(w.t, "for the partitions of "+r.name, roundPatience, func() (bool, string) {
		w.shop.mustTrade()
		r.mustRun()
		all, err := r.reports(w.t.Context())
		n := len(all["sink "+w.sink("cache")].Partitions)
		return err == nil && enough(n), fmt.Sprintf("it has %d, %v", n, err)
	})
}
