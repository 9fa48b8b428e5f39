package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/millrace/doctor"
)

func newDoctor(a *app) *cobra.Command {
	var only string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong with Postgres, Kafka, the registry and the sinks, and say what mends it",
		Long: `Look for what is wrong with Postgres, Kafka, the registry and the stores of
sinks, before anything starts or while it runs: settings that lose events,
rights that are missing, topics that are not as the configuration says,
transactions that stay open, disks that are full, dead letters that wait, and
more. Each finding says what was found, why it matters and what mends it.

It changes nothing. What does not answer is a finding and keeps nobody from the
rest. Exit status 1 if there is an error among the findings.`,
		Example: "  millrace doctor\n  millrace doctor --outbox shop -o json",
		Args:    takes(),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&only, "outbox", "", "only the outbox of this `NAME`, and no sink (default: all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.load()
		if err != nil {
			return err
		}
		site, err := c.site(only)
		if err != nil {
			return err
		}
		if isTerminal(cmd.ErrOrStderr()) {
			patience := time.AfterFunc(2*time.Second, func() {
				fmt.Fprintf(cmd.ErrOrStderr(), "looking; a server that does not answer is given up after %v…\n", site.Timeout)
			})
			defer patience.Stop()
		}
		report := doctor.Run(cmd.Context(), site)
		if err := printReport(cmd.OutOrStdout(), out, report); err != nil {
			return err
		}
		if report.Count(doctor.Error) > 0 {
			return errQuiet
		}
		return nil
	}
	return cmd
}

// doctorTimeout bounds the look at each system.
const doctorTimeout = 15 * time.Second

// site is what the doctor looks at.
func (c *Config) site(only string) (doctor.Site, error) {
	var names []string
	if only != "" || len(c.Sinks) == 0 || len(c.Outboxes) > 0 { // a place with sinks alone is a place as well
		var err error
		if names, err = c.outboxNames(only); err != nil {
			return doctor.Site{}, err
		}
	}
	var err error
	s := doctor.Site{Explain: explain, Timeout: doctorTimeout}
	if s.Kafka, err = c.Kafka.options(); err != nil {
		return s, err
	}
	if s.Registry, err = c.registry(); err != nil {
		return s, err
	}
	if c.Kafka.SASL.Username != "" {
		s.Principal = "User:" + c.Kafka.SASL.Username
	}
	for _, name := range names {
		s.Outboxes = append(s.Outboxes, c.Outboxes[name].Config)
	}
	if only == "" {
		if _, s.Projections, err = c.declarations(); err != nil {
			return s, err
		}
		for _, name := range sorted(c.Sinks) {
			s.Sinks = append(s.Sinks, *c.Sinks[name])
			if c.Sinks[name].Kind == "redis" {
				s.Caches = append(s.Caches, doctor.Cache{Sink: name, URL: c.Sinks[name].URL})
			}
		}
	}
	return s, nil
}

// paint are the colours of severities on a terminal.
var paint = map[doctor.Severity]string{doctor.OK: "\x1b[32m", doctor.Note: "\x1b[36m", doctor.Warning: "\x1b[33m", doctor.Error: "\x1b[1;31m"}

// printReport prints findings by system and outbox, what is wrong with the reason and the remedy, and a sum.
func printReport(w io.Writer, out *format, r doctor.Report) error {
	if *out == "json" {
		sum := map[string]int{}
		for _, s := range doctor.Severities {
			sum[string(s)] = r.Count(s)
		}
		return out.print(w, map[string]any{"findings": append([]doctor.Finding{}, r.Findings...), "count": sum}, nil, nil)
	}
	_, err := io.WriteString(w, reportText(r, isTerminal(w) && os.Getenv("NO_COLOR") == ""))
	return err
}

func reportText(r doctor.Report, colours bool) string {
	var b strings.Builder
	part, width := "", 0
	for _, f := range r.Findings {
		width = max(width, len(f.Check))
	}
	for _, f := range r.Findings {
		if here := strings.TrimSpace(f.System + " " + f.Outbox + f.Sink); here != part {
			if part != "" {
				b.WriteString("\n")
			}
			part = here
			b.WriteString(clean(here) + "\n")
		}
		severity := fmt.Sprintf("%-7s", f.Severity)
		if colours {
			severity = paint[f.Severity] + severity + "\x1b[0m"
		}
		fmt.Fprintf(&b, "  %s  %-*s  %s\n", severity, width, f.Check, clean(f.What))
		for _, more := range [][2]string{{"why", f.Why}, {"mend", f.Mend}} {
			if more[1] != "" {
				fmt.Fprintf(&b, "  %7s  %-*s  %s: %s\n", "", width, "", more[0], clean(more[1]))
			}
		}
	}
	fmt.Fprintf(&b, "\n%s, %s, %s, %d ok\n", count(int64(r.Count(doctor.Error)), "error", "errors"), count(int64(r.Count(doctor.Warning)), "warning", "warnings"),
		count(int64(r.Count(doctor.Note)), "note", "notes"), r.Count(doctor.OK))
	return b.String()
}
