package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/outbox/backfill"
	"github.com/millrace/millrace/schemas"
)

// Backfill declares the first load of an outbox from tables that were there before it.
type Backfill struct {
	// Outbox is the one that events are written to. Default: the only one.
	Outbox string `yaml:"outbox"`
	// Table is read, or Query, a SELECT without locks and limit. One of the two is required.
	Table string `yaml:"table"`
	Query string `yaml:"query"`
	// Key are the columns that rows are read in the order of: unique together, and never changed. Required.
	Key []string `yaml:"key"`
	// Type is the event that a row becomes. Required.
	Type string `yaml:"type"`
	// Fields gives fields of the event the columns they come from. Default: those of the same name.
	Fields map[string]string `yaml:"fields"`
	// Headers are given to every event, besides millrace-snapshot.
	Headers map[string]string `yaml:"headers"`
	// Batch is how many rows a transaction locks at most. Default 500.
	Batch int `yaml:"batch"`
	// Rate bounds the rows a second. Default 0: no bound.
	Rate int `yaml:"rate"`
}

func newBackfill(a *app) *cobra.Command {
	var dry bool
	var rate int
	cmd := &cobra.Command{
		Use:   "backfill NAME",
		Short: "Write a snapshot event for every row of a table that was there before the outbox",
		Long: `Load an outbox for the first time from tables that were there before it: every
row becomes an event with the header millrace-snapshot, written through the
outbox as the application's own are. Goes on where it was left.

  backfills:
    orders: {table: orders, key: [id], type: shop.OrderSaved, rate: 2000}

Also: outbox, query (a SELECT instead of a table), fields ({field: column}),
headers, and batch: the rows a transaction locks at most (500).

The application goes on meanwhile. Before it begins, all writers of the table
must write an event with each change, in the same transaction and AFTER the
statement that changes or locks the row. Then no snapshot takes the place of
something newer. A writer that writes its event first can be overtaken: sinks
may keep the older state of that row until its next event. What is changed
without an event stays in sinks as the backfill saw it.

A batch of rows is locked (FOR SHARE), written as events and counted in one
transaction of some milliseconds; kill -9 repeats nothing and leaves out
nothing. A row that does not fit its schema ends it, with the row's key; a dry
run finds all of them first. Never two of a name at a time.

Exit status 1 if it did not come to its end, or a dry run found rows that do not
fit.`,
		Example: `  millrace backfill orders --dry-run
  millrace backfill orders
  millrace backfill orders --rate 500 -o json
  millrace backfill status
  millrace backfill reset orders`,
		Args: takes("NAME"),
	}
	out := output(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "read every row, check its event, and lock and write nothing")
	cmd.Flags().IntVar(&rate, "rate", 0, "at most so many `ROWS` a second, whatever the configuration says")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if rate < 0 {
			return usagef("--rate %d is no number of rows a second", rate)
		}
		c, err := a.load()
		if err != nil {
			return err
		}
		return c.backfill(cmd, got[0], dry, rate, out)
	}
	cmd.AddCommand(newBackfillStatus(a), newBackfillReset(a))
	return cmd
}

func (c *Config) backfill(cmd *cobra.Command, name string, dry bool, rate int, out *format) error {
	catalogue, err := c.catalogue()
	if err != nil {
		return err
	}
	cfg, o, err := c.backfillConfig(name, catalogue)
	if err != nil {
		return err
	}
	if rate > 0 {
		cfg.Rate = rate
	}
	cfg.DryRun = dry
	conn, err := connect(cmd.Context(), o)
	if err != nil {
		return fmt.Errorf("outbox %s: %w", c.backfillOutbox(name), err)
	}
	defer conn.Close(context.WithoutCancel(cmd.Context()))
	p := newSteps(cmd.ErrOrStderr())
	defer p.stop()
	cfg.Progress = func(at backfill.Progress) { p.at(backfilling(name, at), at.Rows, max(at.Total, 0)) }
	did, err := backfill.Run(cmd.Context(), conn, cfg)
	p.stop()
	return c.printBackfilled(cmd.OutOrStdout(), out, did, err)
}

// backfilling is what a person reads while a backfill runs.
func backfilling(name string, at backfill.Progress) string {
	text := fmt.Sprintf("backfill %s, %s rows a second", name, number(int64(at.Rate)))
	if left := at.Total - at.Rows; at.Total > 0 && left > 0 && at.Rate > 0 {
		text += ", " + short(time.Duration(float64(left)/at.Rate*float64(time.Second)).Round(time.Second)) + " left"
	}
	if at.Waits {
		text += ", somebody else has a row locked"
	}
	return text
}

// backfillConfig is a backfill by name, checked against the schemas.
func (c *Config) backfillConfig(name string, catalogue *schemas.Catalogue) (backfill.Config, *Outbox, error) {
	b := c.Backfills[name]
	if b == nil {
		if len(c.Backfills) == 0 {
			return backfill.Config{}, nil, c.file.Errorf("backfills", "is missing: declare it, such as backfills: {%s: {table: orders, key: [id], type: shop.OrderSaved}}", name)
		}
		return backfill.Config{}, nil, c.file.Errorf("backfills", "has no %q (it has %q)", name, sorted(c.Backfills))
	}
	_, o, err := c.outbox(b.Outbox)
	if err != nil {
		return backfill.Config{}, nil, err
	}
	cfg := backfill.Config{Name: name, Schema: o.schema(), Table: b.Table, Query: b.Query, Key: b.Key, Type: b.Type, Fields: b.Fields,
		Headers: b.Headers, Batch: b.Batch, Rate: b.Rate, Catalogue: catalogue}
	return cfg, o, c.backfillError(name, cfg.Check())
}

// backfillError names the setting that an error is about.
func (c *Config) backfillError(name string, err error) error {
	var d *backfill.DeclarationError
	if errors.As(err, &d) {
		return c.file.Errorf("backfills."+name+"."+d.Field, "%s", d.Reason)
	}
	return err
}

func (c *Config) backfillOutbox(name string) string {
	if b := c.Backfills[name]; b != nil && b.Outbox != "" {
		return b.Outbox
	}
	return strings.Join(sorted(c.Outboxes), ", ")
}

// validateBackfills refuses what can be seen without schemas and servers.
func (c *Config) validateBackfills() error {
	for _, name := range sorted(c.Backfills) {
		b := c.Backfills[name]
		if b == nil {
			return c.file.Errorf("backfills."+name, "is empty")
		}
		if name == "status" || name == "reset" {
			return c.file.Errorf("backfills."+name, "is the name of a command: take another")
		}
		if b.Outbox == "" && len(c.Outboxes) == 1 {
			continue
		}
		if c.Outboxes[b.Outbox] == nil {
			return c.file.Errorf("backfills."+name+".outbox", "%q is no outbox (there are %q)", b.Outbox, sorted(c.Outboxes))
		}
	}
	return nil
}

func (c *Config) printBackfilled(w io.Writer, out *format, did backfill.Result, err error) error {
	if *out == "json" && (err == nil || did.Rows > 0) {
		if printed := out.print(w, did, nil, nil); printed != nil {
			return printed
		}
	}
	if *out != "json" && (err == nil || did.Rows > 0) {
		sayBackfilled(w, did)
	}
	switch {
	case err == nil && did.Unfit > 0:
		return errQuiet
	case err == nil:
		return nil
	case did.DryRun, errors.Is(err, backfill.ErrRunning), errors.Is(err, backfill.ErrChanged), errors.Is(err, backfill.ErrNotMigrated):
		return c.backfillError(did.Name, err)
	case errors.Is(err, context.Canceled):
		return &leftError{"interrupted: the same command goes on where this one ended"}
	case errors.Is(err, backfill.ErrUnfit):
		return fmt.Errorf("%w; nothing of its batch was written: mend the row, the schema or the mapping (a query can convert), see all with --dry-run, then the same command goes on", err)
	}
	var d *backfill.DeclarationError
	if errors.As(err, &d) {
		return c.backfillError(did.Name, err)
	}
	return fmt.Errorf("%w; the same command goes on where this one ended", err)
}

func sayBackfilled(w io.Writer, did backfill.Result) {
	switch {
	case did.Already:
		fmt.Fprintf(w, "%s: finished before, after %s; \"millrace backfill reset %s\" lets it begin anew\n", did.Name, count(did.Before, "row", "rows"), did.Name)
		return
	case did.DryRun:
		fmt.Fprintf(w, "%s: %s would become events (dry run: nothing was locked or written)\n", did.Name, count(did.Rows-did.Unfit, "row", "rows"))
	default:
		more := ""
		if did.Before > 0 {
			more = fmt.Sprintf(", after %s before", count(did.Before, "row", "rows"))
		}
		fmt.Fprintf(w, "%s: %s became events%s, in %s\n", did.Name, count(did.Rows, "row", "rows"), more, short(time.Duration(did.Seconds*float64(time.Second))))
	}
	for _, f := range did.Faults {
		fmt.Fprintf(w, "does not fit: row %s: %s\n", clean(strings.Join(f.Key, ",")), clean(f.Reason))
	}
	if more := did.Unfit - int64(len(did.Faults)); more > 0 {
		fmt.Fprintf(w, "does not fit: %s more\n", count(more, "row", "rows"))
	}
}
