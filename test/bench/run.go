package bench

import (
	"context"
	"io"
	"time"
)

// Options say what a run does.
type Options struct {
	// Cases are names of cases; empty means all of them.
	Cases []string
	// Binary is the millrace binary; empty: one is built.
	Binary string
	// Events is the backlog of the drain. Default 1,000,000.
	Events int64
	// Warmup is the backlog of the drain that is not measured. 0: none.
	Warmup int64
	// Reps is how often each case is measured. Default 3.
	Reps int
	// MemoryEvents is the backlog of the case that looks at memory. Default 5,000,000.
	MemoryEvents int64
	// Rates are the events a second at which latency is measured, For how long, after a warm-up of WarmupFor.
	Rates          []int
	For, WarmupFor time.Duration
	// IdleFor is how long an idle relay is looked at, InsertFor how long writers write with and without a relay.
	IdleFor, InsertFor time.Duration
	// Peer runs the same drain through Debezium as well, in every repetition.
	Peer bool
	// Partitions of every topic. Default 4.
	Partitions int
	// Set are further lines of the outbox's configuration, such as "page_size: 10000".
	Set []string
	// Pprof is a folder for profiles of the relay, PprofFor how long each lasts; empty: none are taken.
	Pprof    string
	PprofFor time.Duration
	// Progress is where it is said how far the run has come.
	Progress io.Writer
}

func (o Options) settings() map[string]any {
	out := map[string]any{
		"events": o.Events, "warmup_events": o.Warmup, "memory_events": o.MemoryEvents, "repetitions": o.Reps, "partitions": o.Partitions,
		"rates": o.Rates, "latency_seconds": o.For.Seconds(), "latency_warmup_seconds": o.WarmupFor.Seconds(),
		"idle_seconds": o.IdleFor.Seconds(), "insert_seconds": o.InsertFor.Seconds(), "writers": writerCount,
	}
	if len(o.Set) > 0 {
		out["outbox"] = o.Set
	}
	if o.Pprof != "" {
		out["profiled"] = true
	}
	return out
}

var cases = []benchCase[*rig]{
	{"drain", "a backlog, with both ceilings in the same run", (*rig).drainCase},
	{"latency", "from commit to a read_committed consumer, at steady rates", (*rig).latencyCase},
	{"kill", "kill -9 in the middle of a drain, twice; then every event is counted", (*rig).killCase},
	{"start", "from the start of the process to its first event", (*rig).startCase},
	{"idle", "what a relay uses that has nothing to do", (*rig).idleCase},
	{"insert", "how fast writers are with the relay running, and without", (*rig).insertCase},
	{"onetx", "one transaction with the whole backlog", (*rig).oneTxCase},
	{"stranger", "drain and latency while transactions are held open", (*rig).strangerCase},
	{"memory", "a large backlog", (*rig).memoryCase},
}

// Cases lists the cases as "name: what it measures".
func Cases() string { return listed(cases) }

// Run starts servers, measures the cases and stops the servers. A case that fails is in the report's failures, and the others
// run nevertheless.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := known(cases, o.Cases); err != nil {
		return nil, err
	}
	report := NewReport(o)
	r, err := newRig(ctx, o, report)
	defer func() {
		if err := r.close(); err != nil {
			r.say("%v", err)
		}
	}()
	if err != nil {
		return report, err
	}
	return report, runCases(ctx, r, cases, o.Cases, o.Progress, report)
}
