package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// benchCase is something that is measured, on a rig of servers.
type benchCase[R teller] struct {
	Name, About string
	run         func(R, context.Context) error
}

// teller prints lines of progress.
type teller interface {
	say(format string, args ...any)
}

func listed[R teller](cases []benchCase[R]) string {
	var b strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&b, "  %-11s %s\n", c.Name, c.About)
	}
	return b.String()
}

// known returns an error for a name that is no case's.
func known[R teller](cases []benchCase[R], names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(cases, func(c benchCase[R]) bool { return c.Name == name }) {
			return fmt.Errorf("there is no case %q; the cases are:\n%s", name, listed(cases))
		}
	}
	return nil
}

// runCases runs the cases of these names, or all of them. One that fails is in the report's failures, and the others run nevertheless.
func runCases[R teller](ctx context.Context, r R, cases []benchCase[R], names []string, out io.Writer, report *Report) error {
	for _, c := range cases {
		if len(names) > 0 && !slices.Contains(names, c.Name) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(out, "%s: %s\n", c.Name, c.About)
		if err := c.run(r, ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.say("FAILED: %v", err)
			report.Failures = append(report.Failures, c.Name+": "+err.Error())
		}
		r.say("done in %.0f s", time.Since(began).Seconds())
	}
	return nil
}
