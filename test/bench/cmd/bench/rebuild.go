package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/millrace/millrace/test/bench"
)

func rebuild(ctx context.Context, args []string) int {
	o := bench.RebuildOptions{Progress: os.Stderr}
	flags := flag.NewFlagSet("bench rebuild", flag.ExitOnError)
	out, asJSON := "", ""
	flags.Var(list{&o.Cases, true}, "case", "measure only these `CASES`, comma-separated")
	flags.StringVar(&o.Binary, "binary", "", "the millrace `FILE` to measure (default: built from this tree)")
	flags.Int64Var(&o.Events, "n", 1_000_000, "events that a sink takes, and is rebuilt from")
	flags.Int64Var(&o.BleveEvents, "bleve-n", 200_000, "those of bleve")
	flags.Int64Var(&o.Warmup, "warmup", 500_000, "events that are taken before anything is measured; 0 for none")
	flags.IntVar(&o.Rate, "rate", 2000, "events a second of live traffic")
	flags.DurationVar(&o.Before, "before", 15*time.Second, "how long live traffic is looked at before a rebuild")
	flags.IntVar(&o.Reps, "reps", 3, "repetitions of each case")
	flags.Var(list{&o.Set, false}, "set", "a further `LINE` of every sink's configuration, such as \"batch_events: 10000\"; may be given again")
	flags.StringVar(&o.Pprof, "pprof", "", "write CPU profiles of drain and rebuild into this `FOLDER`; what is profiled is slower")
	flags.DurationVar(&o.PprofFor, "pprof-for", 3*time.Second, "how long a profile lasts, from the first batch on")
	flags.StringVar(&out, "out", "", "write all figures to this `FILE` as JSON; figures of other cases that stand there stay")
	flags.StringVar(&asJSON, "o", "table", "what to print: table or json")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "Measures rebuilds of sinks on real servers that it starts itself.\n\n  bench rebuild -case postgres,duckdb -n 200000 -reps 1\n  bench rebuild -case live-postgres -rate 5000\n\nCases:\n%s\nFlags:\n", bench.RebuildCases())
		flags.PrintDefaults()
	}
	flags.Parse(args)
	switch {
	case flags.NArg() > 0:
		return wrong("unexpected %q: see bench rebuild -h", flags.Arg(0))
	case o.Before < time.Second:
		return wrong("less than a second measures nothing")
	case o.Events < 20_000 || o.BleveEvents < 20_000 || o.Warmup != 0 && o.Warmup < 1000:
		return wrong("fewer than 20000 events measure nothing")
	case o.Reps < 1 || o.Rate < 1:
		return wrong("-reps and -rate are at least 1")
	case asJSON != "table" && asJSON != "json":
		return wrong("-o is table or json")
	}
	report, err := bench.RunRebuilds(ctx, o)
	if report != nil && out != "" {
		err = errors.Join(err, report.Keep(out))
	}
	return end(report, err, asJSON, out)
}
