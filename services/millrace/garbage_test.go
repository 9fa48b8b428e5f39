package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/millrace/millrace/services/sink"
)

// TestGarbageIsBounded goes through what is used: there is never less garbage than always, never more than the most, and both together
// stay within their bound wherever the least does.
func TestGarbageIsBounded(t *testing.T) {
	for live := uint64(1); live < 4<<30; live += 1 + live/7 {
		percent := garbageBeside(live)
		if percent < garbage || percent > mostGarbage {
			t.Fatalf("%d %% beside %d bytes", percent, live)
		}
		heap := live + live*uint64(percent)/100
		if least := live + live*garbage/100; heap > max(least, lateHeap) {
			t.Fatalf("%d bytes with the garbage beside %d", heap, live)
		}
	}
}

// TestThePacerFollowsWhatIsUsed has little in use, then much: the next collections are late, then early again.
func TestThePacerFollowsWhatIsUsed(t *testing.T) {
	if testing.Short() {
		t.Skip("collects garbage of hundreds of MiB")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(garbage))
	p := &pacer{percent: garbage, live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	runtime.GC()
	if p.pace(); p.percent <= garbage {
		t.Fatalf("%d %% beside %d bytes", p.percent, p.live[0].Value.Uint64())
	}
	used := make([]byte, 2*lateHeap)
	runtime.GC()
	if p.pace(); p.percent != garbage {
		t.Fatalf("%d %% beside %d bytes", p.percent, p.live[0].Value.Uint64())
	}
	runtime.KeepAlive(used)
}

// TestAPacerIsCalledAfterEachCollection arms one, and collects until it has set something.
func TestAPacerIsCalledAfterEachCollection(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(garbage))
	(&pacer{percent: garbage, live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}).arm()
	set := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		runtime.GC()
		if metrics.Read(set); set[0].Value.Uint64() > garbage {
			return
		}
	}
	t.Fatal("thirty seconds of collections, and nothing was set")
}

func TestOnlySinksOnServersCollectLate(t *testing.T) {
	c := &Config{Sinks: map[string]*sink.Config{"a": {Kind: "redis"}, "b": {Kind: "postgres"}, "c": {Kind: "duckdb"}}}
	for want, sinks := range map[bool][]string{true: {"a", "b"}, false: {"a", "c"}} {
		if got := c.onServers(sinks); got != want {
			t.Errorf("%v: %v", sinks, got)
		}
	}
	if c.onServers(nil) {
		t.Error("a relay alone collects late")
	}
}
