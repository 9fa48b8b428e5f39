package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// check looks at one thing of a T. A finding it returns need not say which system, outbox and check it is of. An error means that the
// thing could not be looked at.
type check[T any] struct {
	name string
	look func(context.Context, T) ([]Finding, error)
}

// examine runs checks one after the other.
func examine[T any](ctx context.Context, system, outbox string, on T, checks []check[T]) []Finding {
	var all []Finding
	for _, c := range checks {
		found, err := c.look(ctx, on)
		if err != nil {
			found = append(found, Finding{
				Severity: Warning, What: "could not be looked at: " + err.Error(), Why: "what is wrong there, if anything is, stays unknown", Mend: again,
			})
		}
		for _, f := range found {
			f.System, f.Outbox, f.Check = system, outbox, c.name
			all = append(all, f)
		}
	}
	return all
}

// again is what to do about what could not be looked at.
const again = "mend what the error says, then: millrace doctor"

func fine(format string, args ...any) []Finding {
	return []Finding{{Severity: OK, What: fmt.Sprintf(format, args...)}}
}

// found is a finding that is not OK.
func found(s Severity, what, why, mend string) []Finding {
	return []Finding{{Severity: s, What: what, Why: why, Mend: mend}}
}

// away is the only finding about a system that does not answer.
func (s Site) away(system, outbox, why string, err error) []Finding {
	return []Finding{{System: system, Outbox: outbox, Check: "reachable", Severity: Error, What: oneLine(s.Explain(err)), Why: why,
		Mend: "see that it runs and is reached from here, then: millrace doctor"}}
}

// oneLine is an error in a line; what it says twice, as a database does that was tried with TLS and without, is said once.
func oneLine(err error) string {
	var parts []string
	for _, line := range strings.Split(err.Error(), "\n") {
		if line = strings.Join(strings.Fields(line), " "); line != "" && !slices.Contains(parts, line) {
			parts = append(parts, line)
		}
	}
	return strings.ReplaceAll(strings.Join(parts, "; "), ":; ", ": ")
}
