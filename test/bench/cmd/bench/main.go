// Command bench measures the relay and the sinks on real servers that it starts itself, and prints a table:
//
//	bench relay                                 # everything, as `make bench-relay` does
//	bench relay -case drain -n 200000 -reps 1   # one case, quickly
//	bench sinks                                 # the sinks, as `make bench-sinks` does
//	bench rebuild                               # rebuilding them, as `make bench-rebuild` does
//
// Its exit status is 1 if a case came to no result, and 0 if a target is missed: a slow machine is no error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/test/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	measured := map[string]func(context.Context, []string) int{"relay": relay, "sinks": sinks, "rebuild": rebuild}
	if len(os.Args) < 2 || measured[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: bench relay|sinks|rebuild [flags]; bench relay -h and so on list them")
		os.Exit(2)
	}
	os.Exit(measured[os.Args[1]](ctx, os.Args[2:]))
}

// list is a flag that may be given several times, or once with commas.
type list struct {
	values *[]string
	commas bool
}

func (l list) String() string { return "" }

func (l list) Set(text string) error {
	if l.commas {
		*l.values = append(*l.values, strings.Split(text, ",")...)
		return nil
	}
	*l.values = append(*l.values, text)
	return nil
}

// rates is a flag with numbers.
type rates struct{ values *[]int }

func (r rates) String() string { return "" }

func (r rates) Set(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(one)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a rate", one)
		}
		*r.values = append(*r.values, n)
	}
	return nil
}

func relay(ctx context.Context, args []string) int {
	o := bench.Options{Progress: os.Stderr}
	flags := flag.NewFlagSet("bench relay", flag.ExitOnError)
	out, asJSON := "", ""
	flags.Var(list{&o.Cases, true}, "case", "measure only these `CASES`, comma-separated")
	flags.StringVar(&o.Binary, "binary", "", "the millrace `FILE` to measure (default: built from this tree)")
	flags.Int64Var(&o.Events, "n", 1_000_000, "events in the backlog of the drain")
	flags.Int64Var(&o.Warmup, "warmup", 3_000_000, "events in the drain that is not measured; 0 for none")
	flags.Int64Var(&o.MemoryEvents, "memory-n", 5_000_000, "events in the backlog of the case memory")
	flags.Var(rates{&o.Rates}, "rates", "events a second of the case latency, comma-separated (default 500,2000)")
	flags.DurationVar(&o.For, "for", 30*time.Second, "how long each latency is measured")
	flags.DurationVar(&o.WarmupFor, "warmup-for", 120*time.Second, "how long the same load runs before")
	flags.DurationVar(&o.IdleFor, "idle-for", 20*time.Second, "how long an idle relay is looked at")
	flags.DurationVar(&o.InsertFor, "insert-for", 8*time.Second, "how long writers write with and without a relay")
	flags.BoolVar(&o.Peer, "peer", false, "drain the same backlog through Debezium, too (fetched from Maven Central)")
	flags.IntVar(&o.Reps, "reps", 3, "repetitions of each case")
	flags.IntVar(&o.Partitions, "partitions", 4, "partitions of every topic")
	flags.Var(list{&o.Set, false}, "set", "a further `LINE` of the outbox's configuration, such as \"page_size: 10000\"; may be given again")
	flags.StringVar(&o.Pprof, "pprof", "", "write CPU profiles of the relay into this `FOLDER`; what is profiled is slower")
	flags.DurationVar(&o.PprofFor, "pprof-for", 3*time.Second, "how long a profile lasts, from the first event on")
	flags.StringVar(&out, "out", "", "write all figures to this `FILE` as JSON")
	flags.StringVar(&asJSON, "o", "table", "what to print: table or json")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "Measures the relay on real servers that it starts itself.\n\n  bench relay -case drain -n 200000 -reps 1\n  bench relay -set 'page_size: 10000' -pprof profiles -case drain\n\nCases:\n%s\nFlags:\n", bench.Cases())
		flags.PrintDefaults()
	}
	flags.Parse(args)
	if len(o.Rates) == 0 {
		o.Rates = []int{500, 2000}
	}
	switch {
	case flags.NArg() > 0:
		return wrong("unexpected %q: see bench relay -h", flags.Arg(0))
	case o.For < time.Second || o.WarmupFor < 100*time.Millisecond || o.IdleFor < time.Second || o.InsertFor < time.Second:
		return wrong("less than a second measures nothing")
	case o.Events < 1000 || o.MemoryEvents < 1000 || o.Warmup != 0 && o.Warmup < 1000:
		return wrong("fewer than 1000 events measure nothing")
	case o.Reps < 1 || o.Partitions < 1:
		return wrong("-reps and -partitions are at least 1")
	case asJSON != "table" && asJSON != "json":
		return wrong("-o is table or json")
	}
	report, err := bench.Run(ctx, o)
	return end(report, err, asJSON, out)
}

// end shows what was measured and returns the exit status.
func end(report *bench.Report, err error, asJSON, out string) int {
	if report != nil && len(report.Rows) > 0 {
		err = errors.Join(err, show(report, asJSON, out))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	if len(report.Failures) > 0 {
		return 1
	}
	return 0
}

func wrong(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	return 2
}

func show(report *bench.Report, as, out string) error {
	if out != "" {
		if err := report.Write(out); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "bench: written to", out)
	}
	if as == "json" {
		return report.JSON(os.Stdout)
	}
	return report.Print(os.Stdout)
}
