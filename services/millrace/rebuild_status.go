package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/services/sink"
)

func newRebuildStatus(a *app) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "status [SINK]",
		Short: "Show which generation of a sink serves, and how far a rebuild is",
		Long: `Show which generation of a sink serves, which others there are, how far a
rebuild is, and, once they were compared, what the new one changes. Without a
sink, a line for each.

It reads Kafka, so it also answers when the sink does not run. Exit status 1 if
a rebuild has failed, or was refused and waits for somebody.`,
		Example:           "  millrace rebuild status\n  millrace rebuild status warehouse --follow\n  millrace rebuild status warehouse -o json",
		Args:              takes("[SINK]"),
		ValidArgsFunction: completeSinks(a),
	}
	out := output(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "show how far a rebuild is, until it is done or waits for somebody")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if len(got) == 0 {
			if follow {
				return usagef("--follow looks at one sink: say which")
			}
			return a.rebuilds(cmd, out)
		}
		d, err := openRebuilt(a, got[0])
		if err != nil {
			return err
		}
		return d.status(cmd, out, follow)
	}
	return cmd
}

// stands is an error if a rebuild waits for somebody.
func stands(rec *rebuild.Record) error {
	if r := rec.Rebuild; r != nil && (r.State == rebuild.Failed || r.State == rebuild.Refused) {
		return errQuiet
	}
	return nil
}

func (d *rebuilt) status(cmd *cobra.Command, out *format, follow bool) error {
	known, err := d.Read(cmd.Context())
	if err != nil {
		return err
	}
	rec := &known
	if follow && rec.Rebuild != nil {
		return d.follow(cmd, out, rebuild.Start, rec.Rebuild.ID)
	}
	w := cmd.OutOrStdout()
	if *out == "json" {
		if err := out.print(w, rec, nil, nil); err != nil {
			return err
		}
		return stands(rec)
	}
	keep, _, err := d.projections()
	if err != nil {
		return err
	}
	if err := table(w, []string{"GENERATION", "", "MADE", "BUILT AT", "DECLARATIONS"}, generationRows(rec, keep)); err != nil {
		return err
	}
	switch {
	case rec.Rebuild != nil:
		fmt.Fprintln(w)
		err = d.print(w, rec, rec.Rebuild)
	case rec.Last != nil:
		_, err = fmt.Fprintf(w, "\n%s\n", clean("the last rebuild, "+moments(rec.Last.EndedAt)+": "+d.standing(rec, rec.Last, time.Now())))
	}
	if err != nil {
		return err
	}
	if names := rec.Generations[rec.Serving].Differs(keep); len(names) > 0 && rec.Rebuild == nil {
		fmt.Fprintf(w, "\n%s; to see what that changes: millrace rebuild --plan %s\n", differText(names), d.name)
	}
	return stands(rec)
}

// generationRows are those that exist, by number.
func generationRows(rec *rebuild.Record, keep []fold.Projection) [][]string {
	numbers := make([]int, 0, len(rec.Generations))
	for n := range rec.Generations {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	if len(numbers) == 0 {
		return [][]string{{"1", "serves", "-", "-", "as configured"}}
	}
	var rows [][]string
	for _, n := range numbers {
		g := rec.Generations[n]
		rate, made := "-", "-"
		if g.Rate >= 1 {
			rate = number(int64(g.Rate)) + "/s"
		}
		if !g.MadeAt.IsZero() {
			made = moments(g.MadeAt)
		}
		text := "as configured"
		if names := g.Differs(keep); len(names) > 0 {
			text = "other than configured: " + strings.Join(names, ", ")
		}
		rows = append(rows, []string{fmt.Sprint(n), role(rec, n), made, rate, text})
	}
	return rows
}

// role is what a generation is for.
func role(rec *rebuild.Record, n int) string {
	r := rec.Rebuild
	switch {
	case n == rec.Serving:
		return "serves"
	case r == nil:
		return "is left over"
	case r.State == rebuild.Retiring:
		return "is removed"
	case r.State == rebuild.Soaking:
		return "follows"
	case n == r.New:
		return "is built"
	}
	return "-"
}

// sinkRecord is what `rebuild status -o json` prints of a sink.
type sinkRecord struct {
	*rebuild.Record
	Error string `json:"error,omitempty"`
}

// rebuilds shows a line for each sink.
func (a *app) rebuilds(cmd *cobra.Command, out *format) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	all, rows := []sinkRecord{}, [][]string{}
	var bad error
	for _, name := range sorted(c.Sinks) {
		if c.Sinks[name].Role() == sink.Webhook {
			continue
		}
		one := c.sinkRecord(cmd.Context(), name)
		if one.Error != "" || stands(one.Record) != nil {
			bad = errQuiet
		}
		all = append(all, one)
		rows = append(rows, recordRow(name, one, time.Now()))
	}
	if err := out.print(cmd.OutOrStdout(), all, []string{"SINK", "SERVES", "SINCE", "REBUILD"}, rows); err != nil {
		return err
	}
	return bad
}

func (c *Config) sinkRecord(ctx context.Context, name string) sinkRecord {
	d, err := c.rebuilt(name)
	if err != nil {
		return sinkRecord{&rebuild.Record{Sink: name}, oneLine(err)}
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	rec, err := d.Read(ctx)
	if err != nil {
		return sinkRecord{&rebuild.Record{Sink: name}, oneLine(err)}
	}
	return sinkRecord{&rec, ""}
}

func recordRow(name string, one sinkRecord, now time.Time) []string {
	if one.Error != "" {
		return []string{name, "?", "-", one.Error}
	}
	text, since := "-", "-"
	if g := one.Generations[one.Serving]; g != nil && !g.MadeAt.IsZero() {
		since = ago(g.MadeAt, now)
	}
	if one.Rebuild != nil {
		text = progressText(one.Rebuild, now)
	}
	return []string{name, fmt.Sprintf("generation %d", cmp.Or(one.Serving, 1)), since, text}
}
