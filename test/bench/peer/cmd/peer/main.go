// Command peer measures Debezium on the workload of the relay's benchmark, on servers that it starts itself, and prints
// a table:
//
//	peer                                   # everything, as `make bench-peer` does
//	peer -case drain -n 200000 -reps 1     # one case, quickly
//
// Its exit status is 1 if something could not be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// plan is what to measure.
type plan struct {
	events   int
	reps     int
	rows     int
	rates    []int
	duration time.Duration
	cases    []string
}

var allCases = []string{"drain", "latency", "kill"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	p, as, out, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "peer:", err)
		return 2
	}
	defer harness.Cleanup()
	report, err := p.measure(ctx, func(line string) { fmt.Fprintln(os.Stderr, " ", line) })
	// What was measured before something failed is shown all the same.
	if err = errors.Join(err, show(report, as, out)); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		return 1
	}
	return 0
}

func parse(args []string) (p plan, as, out string, err error) {
	flags := flag.NewFlagSet("peer", flag.ContinueOnError)
	flags.IntVar(&p.events, "n", 1_500_000, "events in the backlog of the drain; below a million most of the run is spent compiling")
	flags.IntVar(&p.reps, "reps", 3, "repetitions of each case")
	flags.IntVar(&p.rows, "transaction", 0, "events in each transaction of the backlog; 0: 1 to 10 in turn")
	rates := flags.String("rate", "500,2000", "events per second at which latency is measured, comma-separated `RATES`")
	flags.DurationVar(&p.duration, "duration", 30*time.Second, "how long latency is measured at each rate")
	cases := flags.String("case", strings.Join(allCases, ","), "measure only these `CASES`, comma-separated")
	flags.StringVar(&as, "o", "table", "what to print: table or json")
	flags.StringVar(&out, "out", "", "write all figures to this `FILE` as JSON")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "Measures Debezium on the workload of the relay's benchmark, on servers that it starts itself.\n\n"+
			"  peer -case drain -n 200000 -reps 1\n  peer -case latency -rate 500\n\nFlags:\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return p, "", "", err
	}
	p.cases = strings.Split(*cases, ",")
	for text := range strings.SplitSeq(*rates, ",") {
		rate, err := strconv.Atoi(text)
		if err != nil || rate < 1 {
			return p, "", "", fmt.Errorf("-rate %q: a rate is a number of 1 or more", text)
		}
		p.rates = append(p.rates, rate)
	}
	return p, as, out, p.check(as, flags.Args())
}

func (p plan) check(as string, rest []string) error {
	for _, c := range p.cases {
		if !slices.Contains(allCases, c) {
			return fmt.Errorf("-case %q: the cases are %s", c, strings.Join(allCases, ", "))
		}
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected %q: see peer -h", rest[0])
	case p.events < 10_000:
		return errors.New("-n: fewer than 10000 events measure nothing")
	case p.rows < 0:
		return errors.New("-transaction is 0 or more")
	case p.reps < 1:
		return errors.New("-reps is 1 or more")
	case p.duration < time.Second:
		return errors.New("-duration is 1s or more")
	case as != "table" && as != "json":
		return errors.New("-o is table or json")
	}
	return nil
}

func show(r *Report, as, out string) error {
	if r == nil || r.empty() {
		return nil
	}
	if out != "" {
		if err := r.write(out); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "peer: written to", out)
	}
	if as == "json" {
		return r.json(os.Stdout)
	}
	return r.print(os.Stdout)
}
