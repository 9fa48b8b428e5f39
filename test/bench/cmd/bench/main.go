// Command bench measures the relay on real servers that it starts itself, and prints a table:
//
//	bench relay                                 # everything, as `make bench-relay` does
//	bench relay -case drain -n 200000 -reps 1   # one case, quickly
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
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/test/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) < 2 || os.Args[1] != "relay" {
		fmt.Fprintln(os.Stderr, "usage: bench relay [flags]; bench relay -h lists them")
		os.Exit(2)
	}
	os.Exit(relay(ctx, os.Args[2:]))
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

func relay(ctx context.Context, args []string) int {
	o := bench.Options{Progress: os.Stderr}
	flags := flag.NewFlagSet("bench relay", flag.ExitOnError)
	out, asJSON := "", ""
	flags.Var(list{&o.Cases, true}, "case", "measure only these `CASES`, comma-separated")
	flags.StringVar(&o.Binary, "binary", "", "the millrace `FILE` to measure (default: built from this tree)")
	flags.Int64Var(&o.Events, "n", 1_000_000, "events in the backlog of the drain")
	flags.Int64Var(&o.Warmup, "warmup", 200_000, "events in the drain that is not measured; 0 for none")
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
	switch {
	case flags.NArg() > 0:
		return wrong("unexpected %q: see bench relay -h", flags.Arg(0))
	case o.Events < 1000 || o.Warmup != 0 && o.Warmup < 1000:
		return wrong("fewer than 1000 events measure nothing")
	case o.Reps < 1 || o.Partitions < 1:
		return wrong("-reps and -partitions are at least 1")
	case asJSON != "table" && asJSON != "json":
		return wrong("-o is table or json")
	}
	report, err := bench.Run(ctx, o)
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
