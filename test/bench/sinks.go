package bench

import (
	"context"
	"io"
	"time"

	"github.com/millrace/millrace/test/bench/measure"
)

// SinkOptions say what a run that measures sinks does.
type SinkOptions struct {
	// Cases are names of cases; empty means all of them.
	Cases []string
	// Binary is the millrace binary; empty: one is built.
	Binary string
	// Events are what each sink takes. Default 1,000,000.
	Events int64
	// BleveEvents are what bleve takes, which is slower than the others by far. Default 200,000.
	BleveEvents int64
	// Warmup is what a warehouse takes before anything is measured. 0: nothing.
	Warmup int64
	// MemoryEvents is the backlog of the case that looks at memory. Default 10,000,000.
	MemoryEvents int64
	// Reps is how often each case is measured. Default 3.
	Reps int
	// Rate is the events a second at which the way to the cache is measured, For how long, after a warm-up of WarmupFor.
	Rate           int
	For, WarmupFor time.Duration
	// Peer runs the same events through Debezium's JDBC sink as well, in every repetition.
	Peer bool
	// Set are further lines of the sink's configuration, such as "batch_events: 10000".
	Set []string
	// Pprof is a folder for profiles of the sink, PprofFor how long each lasts; empty: none are taken.
	Pprof    string
	PprofFor time.Duration
	// Progress is where it is said how far the run has come.
	Progress io.Writer
}

func (o SinkOptions) settings() map[string]any {
	out := map[string]any{
		"events": o.Events, "bleve_events": o.BleveEvents, "warmup_events": o.Warmup, "memory_events": o.MemoryEvents, "keys": saleKeys, "repetitions": o.Reps,
		"rate": o.Rate, "latency_seconds": o.For.Seconds(), "latency_warmup_seconds": o.WarmupFor.Seconds(), "writers": writerCount,
	}
	if len(o.Set) > 0 {
		out["sink"] = o.Set
	}
	if o.Pprof != "" {
		out["profiled"] = true
	}
	return out
}

var sinkCases = []benchCase[*sinkRig]{
	{"silver", "Postgres, the newest state of each key, with one lane", func(r *sinkRig, ctx context.Context) error { return r.silverCase(ctx, 1) }},
	{"silver3", "the same with three lanes, and Debezium", func(r *sinkRig, ctx context.Context) error { return r.silverCase(ctx, 3) }},
	{"bronze", "Postgres, every event, and Debezium", (*sinkRig).bronzeCase},
	{"guard", "Postgres, with the exactly-once guard and without", (*sinkRig).guardCase},
	{"duckdb", "DuckDB, every event and the newest states", (*sinkRig).duckdbCase},
	{"duckdb-silver", "DuckDB, the newest states alone", (*sinkRig).duckdbSilverCase},
	{"opensearch", "OpenSearch, with one lane", func(r *sinkRig, ctx context.Context) error { return r.openSearchCase(ctx, 1) }},
	{"opensearch3", "the same with three lanes", func(r *sinkRig, ctx context.Context) error { return r.openSearchCase(ctx, 3) }},
	{"bleve", "an embedded search index", (*sinkRig).bleveCase},
	{"cache", "Redis, from an event to a voided cache key", (*sinkRig).cacheCase},
	{"invalidate", "from a COMMIT in the application's database to the voided cache key, at a steady rate", (*sinkRig).invalidateCase},
	{"memory", "what sinks hold with a large backlog", (*sinkRig).sinkMemoryCase},
}

// SinkCases lists the cases as "name: what it measures".
func SinkCases() string { return listed(sinkCases) }

// RunSinks starts servers, measures the cases and stops the servers. A case that fails is in the report's failures, and the others run
// nevertheless.
func RunSinks(ctx context.Context, o SinkOptions) (*Report, error) {
	if err := known(sinkCases, o.Cases); err != nil {
		return nil, err
	}
	report := &Report{Machine: measure.ThisMachine(), Commit: measure.Commit(), Versions: map[string]string{}, Settings: o.settings()}
	r, err := newSinkRig(ctx, o, report)
	defer func() {
		if err := r.close(); err != nil {
			r.say("%v", err)
		}
	}()
	if err != nil {
		return report, err
	}
	return report, runCases(ctx, r, sinkCases, o.Cases, o.Progress, report)
}
