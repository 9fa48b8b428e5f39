package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/consumers/warehouse/duckdb"
	"github.com/millrace/millrace/consumers/warehouse/gold"
	"github.com/millrace/millrace/services/sink"
)

func newGold(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "gold",
		Short:   "Build the SQL models of a warehouse, and see where each stands",
		Example: "  millrace gold status\n  millrace gold run\n  millrace gold graph",
	}
	return family(cmd, newGoldRun(a), newGoldStatus(a), newGoldGraph(a))
}

// forge is where models are built: in this process, or in the one that has the warehouse open.
type forge interface {
	Status(ctx context.Context) ([]gold.Status, error)
	Build(ctx context.Context, model string, o gold.Options) (gold.Outcome, error)
	Prune(ctx context.Context) ([]string, error)
}

// goldSink is the sink whose models a command is about.
type goldSink struct {
	remote
	config *Config
	graph  *gold.Graph
	// limit is how long an answer of another process is waited for.
	limit time.Duration
}

// open finds the sink and its models.
func (g *goldSink) open(a *app) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	g.config = c
	if g.sink == "" {
		var names []string
		for _, name := range sorted(c.Sinks) {
			if c.Sinks[name].Gold.Models != "" {
				names = append(names, name)
			}
		}
		switch len(names) {
		case 0:
			return c.file.Errorf("sinks", "has no warehouse with gold: {models: FOLDER}")
		case 1:
			g.sink = names[0]
		default:
			return usagef("there are %d sinks with models: say which with --sink (%s)", len(names), strings.Join(names, ", "))
		}
	}
	if err := g.resolve(a, sink.Warehouse); err != nil {
		return err
	}
	if g.url == "" {
		g.url = "http://" + c.HTTP.Listen
	}
	_, projections, err := c.declarations()
	if err != nil {
		return err
	}
	keep, _, err := c.Sinks[g.sink].Resolve(projections)
	if err == nil {
		g.graph, err = c.Sinks[g.sink].Graph(keep)
	}
	if err == nil && g.graph == nil {
		return c.file.Errorf("sinks."+g.sink+".gold", "is missing: the sink has no models")
	}
	return c.sinkError(g.sink, err)
}

// forge returns where the models are built. DuckDB's file belongs to one process: that is asked, and where there is none the file is opened here.
func (g *goldSink) forge(ctx context.Context, a *app) (forge, io.Closer, error) {
	cfg := g.config.Sinks[g.sink]
	var asked error
	if cfg.Kind == "duckdb" {
		there := &remoteGold{g}
		_, asked = there.Status(ctx)
		var none *noSinkError
		if asked == nil || !errors.Is(asked, errNothingAnswers) && !errors.As(asked, &none) {
			return there, io.NopCloser(nil), nil
		}
	}
	_, projections, err := g.config.declarations()
	if err != nil {
		return nil, nil, err
	}
	serving, err := g.config.serving(ctx, *cfg)
	if err != nil {
		return nil, nil, err
	}
	r, closer, err := sink.OpenGold(serving, projections, a.logger)
	if errors.Is(err, duckdb.ErrOpen) {
		return nil, nil, fmt.Errorf("another process has the warehouse of sink %s open, and %w", g.sink, asked)
	}
	if err := g.config.sinkError(g.sink, err); err != nil {
		return nil, nil, err
	}
	return r, closer, nil
}

// serving is the configuration of the generation of a sink that serves.
func (c *Config) serving(ctx context.Context, cfg sink.Config) (sink.Config, error) {
	opts, err := c.Kafka.options()
	if err != nil {
		return cfg, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return sink.Serving(ctx, cfg, opts)
}

// remoteGold asks the process that runs the sink.
type remoteGold struct{ g *goldSink }

func (r *remoteGold) Status(ctx context.Context) (all []gold.Status, err error) {
	return all, r.g.call(ctx, time.Minute, http.MethodGet, "/gold", nil, &all)
}

func (r *remoteGold) Build(ctx context.Context, model string, o gold.Options) (out gold.Outcome, err error) {
	return out, r.g.call(ctx, r.g.limit, http.MethodPost, "/gold", gold.Request{Model: model, Options: o}, &out)
}

func (r *remoteGold) Prune(ctx context.Context) ([]string, error) {
	var out gold.Pruned
	return out.Gone, r.g.call(ctx, r.g.limit, http.MethodPost, "/gold", gold.Request{Prune: true}, &out)
}

func newGoldStatus(a *app) *cobra.Command {
	var g goldSink
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show where each model stands: fresh, behind, failed, halted",
		Long: `Show where each model stands: fresh, behind (and by how many events of its
topics), failed (and why, with a few of the rows that fail a test), halted (by
which model, and since when), or new.

Exit status 1 if a model has failed or is halted.`,
		Example: "  millrace gold status\n  millrace gold status --sink warehouse -o json",
		Args:    takes(),
	}
	out := output(cmd)
	g.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := g.open(a); err != nil {
			return err
		}
		f, closer, err := g.forge(cmd.Context(), a)
		if err != nil {
			return err
		}
		all, err := f.Status(cmd.Context())
		if err := errors.Join(err, closer.Close()); err != nil {
			return err
		}
		if err := out.print(cmd.OutOrStdout(), all, []string{"MODEL", "STATE", "BEHIND", "ROWS", "BUILT", "KIND", "WHY"}, statusRows(all, time.Now())); err != nil {
			return err
		}
		for _, s := range all {
			if s.State == "failed" || s.State == "halted" {
				return errQuiet
			}
		}
		return nil
	}
	return cmd
}

func statusRows(all []gold.Status, now time.Time) [][]string {
	var rows [][]string
	for _, s := range all {
		rows = append(rows, []string{s.Model, s.State, number(s.Behind), number(s.Rows), ago(s.BuiltAt, now), s.Kind, why(s, now)})
		for _, t := range s.Tests {
			for _, e := range t.Examples {
				rows = append(rows, []string{"", "", "", "", "", "", "  " + t.Test + ": " + e})
			}
		}
	}
	return rows
}

// why is what there is to say of a state.
func why(s gold.Status, now time.Time) string {
	switch {
	case s.State == "halted" && !s.Since.IsZero():
		return "halted by " + s.By + " since " + ago(s.Since, now)
	case s.State == "failed":
		return "since " + ago(s.Since, now) + ": " + s.Reason
	}
	return s.Reason
}

// edge is a model as `gold graph` shows it.
type edge struct {
	Model  string   `json:"model"`
	Kind   string   `json:"kind"`
	About  string   `json:"about,omitempty"`
	File   string   `json:"file"`
	Reads  []string `json:"reads"`
	ReadBy []string `json:"read_by"`
	Tests  []string `json:"tests"`
}

func newGoldGraph(a *app) *cobra.Command {
	var g goldSink
	cmd := &cobra.Command{
		Use:     "graph",
		Short:   "Show the models in the order of building, what each reads and what reads it",
		Example: "  millrace gold graph\n  millrace gold graph -o json",
		Args:    takes(),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&g.sink, "sink", "", "`NAME` of the sink, where there is more than one with models")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := g.open(a); err != nil {
			return err
		}
		edges := edgesOf(g.graph)
		rows := make([][]string, len(edges))
		for i, e := range edges {
			rows[i] = []string{e.Model, e.Kind, strings.Join(e.Reads, " "), strings.Join(e.ReadBy, " "), e.About}
		}
		return out.print(cmd.OutOrStdout(), edges, []string{"MODEL", "KIND", "READS", "READ BY", "ABOUT"}, rows)
	}
	return cmd
}

func edgesOf(g *gold.Graph) []edge {
	out := make([]edge, len(g.Models))
	for i, m := range g.Models {
		e := edge{Model: m.Name, Kind: m.Kind(), About: m.About, File: m.File, Reads: m.Inputs, ReadBy: []string{}, Tests: []string{}}
		for _, other := range g.Models {
			for _, up := range other.Upstream() {
				if up == m.Name {
					e.ReadBy = append(e.ReadBy, other.Name)
				}
			}
		}
		for _, t := range m.Tests {
			e.Tests = append(e.Tests, t.Name)
		}
		out[i] = e
	}
	return out
}
