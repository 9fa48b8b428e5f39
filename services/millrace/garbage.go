package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// garbage is how much of it a process may hold, in percent of what it uses. With half of Go's own 100 a relay that drains held 86 instead of 107 MiB, a sink on
// Postgres 216 instead of 260, and neither was slower than the difference between two runs.
const garbage = 50

// A sink that writes to a server makes much garbage beside little that is used, and what a collection costs depends on what is used. Up to lateHeap bytes, used and
// garbage together, it collects late; above, garbage holds. A cache on Redis, 1,000,000 events: 7.3 s of CPU instead of 10.3, 191 MiB instead of 94.
const (
	lateHeap    = 144 << 20
	mostGarbage = 400 // percent
)

// collectEarly sets how much garbage there may be, unless the environment does. late is for sinks on servers; one with its store in this process has no memory to
// spare.
func collectEarly(late bool) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(garbage)
	if late {
		p := &pacer{percent: garbage, live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
		p.arm()
	}
}

// onServers says whether there are sinks, and all of them keep what they write elsewhere.
func (c *Config) onServers(sinks []string) bool {
	for _, name := range sinks {
		if c.Sinks[name].Embedded() {
			return false
		}
	}
	return len(sinks) > 0
}

// pacer sets after each collection how much garbage there may be before the next.
type pacer struct {
	percent int
	live    []metrics.Sample
}

// arm has the pacer called after the next collection: it leaves something behind that nobody uses.
func (p *pacer) arm() {
	type left struct{ _ [64]byte }
	runtime.SetFinalizer(new(left), func(*left) {
		p.pace()
		p.arm()
	})
}

func (p *pacer) pace() {
	metrics.Read(p.live)
	if percent := garbageBeside(p.live[0].Value.Uint64()); percent != p.percent {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
}

// garbageBeside is how much garbage there may be beside so many bytes that are used, in percent of them.
func garbageBeside(live uint64) int {
	switch {
	case live*(100+mostGarbage)/100 <= lateHeap:
		return mostGarbage
	case live*(100+garbage)/100 >= lateHeap:
		return garbage
	}
	return int((lateHeap - live) * 100 / live)
}
