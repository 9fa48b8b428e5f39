package bench

import (
	"context"
	"io"
	"time"

	"github.com/millrace/millrace/test/bench/measure"
)

// RebuildOptions say what a run that measures rebuilds does.
type RebuildOptions struct {
	// Cases are names of cases; empty means all of them.
	Cases []string
	// Binary is the millrace binary; empty: one is built.
	Binary string
	// Events are what a sink takes, and is rebuilt from. Default 1,000,000.
	Events int64
	// BleveEvents are those of bleve, which is slower than the others by far. Default 200,000.
	BleveEvents int64
	// Warmup is what a warehouse takes before anything is measured. 0: nothing.
	Warmup int64
	// Reps is how often each case is measured. Default 3.
	Reps int
	// Rate is the events a second of live traffic, and Before how long it runs before a rebuild is asked for.
	Rate   int
	Before time.Duration
	// Set are further lines of the sink's configuration, such as "batch_events: 10000".
	Set []string
	// Pprof is a folder for profiles of the sink while it drains and while it builds, PprofFor how long each lasts; empty: none are taken.
	Pprof    string
	PprofFor time.Duration
	// Progress is where it is said how far the run has come.
	Progress io.Writer
}

func (o RebuildOptions) settings() map[string]any {
	out := map[string]any{
		"events": o.Events, "bleve_events": o.BleveEvents, "warmup_events": o.Warmup, "keys": saleKeys, "repetitions": o.Reps, "rate": o.Rate, "before_seconds": o.Before.Seconds(),
	}
	if len(o.Set) > 0 {
		out["sink"] = o.Set
	}
	if o.Pprof != "" {
		out["profiled"] = true
	}
	return out
}

// rebuildRig is the rig of a run that measures rebuilds.
type rebuildRig struct {
	*sinkRig
	o RebuildOptions
}

var rebuildCases = []benchCase[*rebuildRig]{
	rebuildCase("postgres", "a warehouse in Postgres, drained, then rebuilt without live traffic; and what the plan says", (*rebuildRig).idleCase, postgresRebuilt),
	rebuildCase("duckdb", "the same in DuckDB", (*rebuildRig).idleCase, duckRebuilt),
	rebuildCase("bleve", "the same of an embedded search index", (*rebuildRig).idleCase, bleveRebuilt),
	rebuildCase("opensearch", "the same in OpenSearch", (*rebuildRig).idleCase, searchRebuilt),
	rebuildCase("live-postgres", "Postgres rebuilt under live traffic: lag, cut-over, readers", (*rebuildRig).liveCase, postgresRebuilt),
	rebuildCase("live-duckdb", "the same in DuckDB", (*rebuildRig).liveCase, duckRebuilt),
	rebuildCase("live-bleve", "the same of an embedded search index", (*rebuildRig).liveCase, bleveRebuilt),
	rebuildCase("live-opensearch", "the same in OpenSearch", (*rebuildRig).liveCase, searchRebuilt),
}

func rebuildCase(name, about string, run func(*rebuildRig, context.Context, rebuiltStore) error, s rebuiltStore) benchCase[*rebuildRig] {
	return benchCase[*rebuildRig]{name, about, func(r *rebuildRig, ctx context.Context) error { return run(r, ctx, s) }}
}

// RebuildCases lists the cases as "name: what it measures".
func RebuildCases() string { return listed(rebuildCases) }

// RunRebuilds starts servers, measures the cases and stops the servers. A case that fails is in the report's failures, and the others run
// nevertheless.
func RunRebuilds(ctx context.Context, o RebuildOptions) (*Report, error) {
	if err := known(rebuildCases, o.Cases); err != nil {
		return nil, err
	}
	report := &Report{Machine: measure.ThisMachine(), Commit: measure.Commit(), Versions: map[string]string{}, Settings: o.settings()}
	s, err := newSinkRig(ctx, SinkOptions{
		Binary: o.Binary, Warmup: o.Warmup, Set: o.Set, Pprof: o.Pprof, PprofFor: o.PprofFor, Progress: o.Progress,
	}, report)
	defer func() {
		if err := s.close(); err != nil {
			s.say("%v", err)
		}
	}()
	if err != nil {
		return report, err
	}
	return report, runCases(ctx, &rebuildRig{s, o}, rebuildCases, o.Cases, o.Progress, report)
}
