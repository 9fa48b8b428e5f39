package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/consumers/warehouse/gold"
)

// goldRun is what `gold run` was asked for.
type goldRun struct {
	goldSink
	full, prune bool
}

func newGoldRun(a *app) *cobra.Command {
	var g goldRun
	cmd := &cobra.Command{
		Use:   "run [MODEL]",
		Short: "Build the models that are not fresh, now",
		Long: `Build the models that are not fresh, each after what it reads; with the name of
one, that one and what it reads. A sink that runs does so by itself; this does
it at once, and tries again what has failed.

A duckdb warehouse belongs to one process: if its sink runs, that one is asked,
else the file is opened here. Readers see what was built before until the new
table has passed its tests.

Exit status 1 if a model fails or is halted.`,
		Example: "  millrace gold run\n  millrace gold run revenue --full\n  millrace gold run --prune",
		Args:    takes("[MODEL]"),
	}
	out := output(cmd)
	g.flags(cmd)
	cmd.Flags().BoolVar(&g.full, "full", false, "build in full, although no input has moved or the model is incremental")
	cmd.Flags().BoolVar(&g.prune, "prune", false, "take away the tables of models whose files are gone, and build nothing")
	cmd.Flags().DurationVar(&g.limit, "timeout", 15*time.Minute, "how long to wait for one model")
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		if g.open(a) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, m := range g.graph.Models {
			names = append(names, m.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if err := g.open(a); err != nil {
			return err
		}
		if len(got) == 1 && g.graph.Model(got[0]) == nil {
			return usagef("there is no model %q in %s", got[0], g.config.Sinks[g.sink].Gold.Models)
		}
		f, closer, err := g.forge(cmd.Context(), a)
		if err != nil {
			return err
		}
		if g.prune {
			err = g.pruneAll(cmd, f, out)
		} else {
			err = g.runAll(cmd, f, out, got)
		}
		return errors.Join(err, closer.Close())
	}
	return cmd
}

func (g *goldRun) pruneAll(cmd *cobra.Command, f forge, out *format) error {
	gone, err := f.Prune(cmd.Context())
	if err != nil {
		return err
	}
	rows := make([][]string, len(gone))
	for i, name := range gone {
		rows[i] = []string{name}
	}
	return out.print(cmd.OutOrStdout(), gold.Pruned{Gone: gone}, []string{"TAKEN AWAY"}, rows)
}

// wanted are the models to build, in order, and those to build in full.
func (g *goldRun) wanted(got []string) (names, full []string) {
	if len(got) == 1 {
		names, full = append(g.graph.Ancestors(got[0]), got[0]), got
	} else {
		for _, m := range g.graph.Models {
			names = append(names, m.Name)
		}
		full = names
	}
	if !g.full {
		full = nil
	}
	return names, full
}

// runAll builds one model after the other, and tells of each when it is done.
func (g *goldRun) runAll(cmd *cobra.Command, f forge, out *format, got []string) error {
	names, full := g.wanted(got)
	all := []gold.Outcome{}
	bad := false
	for _, name := range names {
		one, err := g.one(cmd, f, name, gold.Options{Full: slices.Contains(full, name)})
		if err != nil {
			return fmt.Errorf("model %s: %w", name, err)
		}
		all = append(all, one)
		bad = bad || one.State == "failed" || one.State == "halted"
		if *out != "json" {
			fmt.Fprintln(cmd.OutOrStdout(), clean(modelText(one)))
			for _, t := range one.Tests {
				for _, e := range t.Examples {
					fmt.Fprintln(cmd.OutOrStdout(), "  "+clean(t.Test+": "+e))
				}
			}
		}
	}
	if *out == "json" {
		if err := out.print(cmd.OutOrStdout(), all, nil, nil); err != nil {
			return err
		}
	}
	if bad {
		return errQuiet
	}
	return nil
}

// one builds a model, and says so where that takes longer.
func (g *goldRun) one(cmd *cobra.Command, f forge, name string, o gold.Options) (gold.Outcome, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), g.limit+answerPatience)
	defer cancel()
	told := make(chan struct{})
	start := time.Now()
	tick := time.NewTicker(quietFor)
	go func() {
		defer close(told)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				fmt.Fprintf(cmd.ErrOrStderr(), "building %s for %s\n", name, short(time.Since(start).Round(time.Second)))
			}
		}
	}()
	one, err := f.Build(ctx, name, o)
	tick.Stop()
	cancel()
	<-told
	return one, err
}

// modelText says in a line what became of a model.
func modelText(o gold.Outcome) string {
	switch o.State {
	case "built":
		keys := ""
		if o.Mode == "incremental" {
			keys = ", " + count(o.Keys, "key", "keys") + " anew"
		}
		return fmt.Sprintf("%s: built (%s: %s), %s%s, %s", o.Model, o.Mode, o.Reason, count(o.Rows, "row", "rows"), keys, short(time.Duration(o.Seconds*float64(time.Second))))
	case "halted":
		return fmt.Sprintf("%s: halted by %s: %s", o.Model, o.By, o.Reason)
	case "failed":
		return o.Model + ": failed: " + cmp.Or(o.Error, o.Reason)
	}
	return fmt.Sprintf("%s: %s (%s)", o.Model, o.State, o.Reason)
}
