package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/outbox/backfill"
)

// backfillRow is one row of `backfill status`.
type backfillRow struct {
	Outbox string `json:"outbox"`
	backfill.State
}

func newBackfillStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show how far each backfill has come",
		Example: "  millrace backfill status\n  millrace backfill status -o json",
		Args:    takes(),
	}
	out := output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all := []backfillRow{}
		begun := map[string]bool{}
		err := a.eachOutbox("", func(name string, o *Outbox) error {
			conn, err := connect(cmd.Context(), o)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(cmd.Context()))
			states, err := backfill.List(cmd.Context(), conn, o.schema())
			for _, s := range states {
				all = append(all, backfillRow{name, s})
				begun[s.Name] = true
			}
			return err
		})
		if err != nil {
			return err
		}
		c, err := a.load()
		if err != nil {
			return err
		}
		for _, name := range sorted(c.Backfills) {
			if !begun[name] {
				all = append(all, backfillRow{c.backfillOutbox(name), backfill.State{Name: name, State: "not begun", Total: -1}})
			}
		}
		rows := make([][]string, len(all))
		for i, s := range all {
			of, updated := "-", "-"
			if s.Total >= 0 {
				of = number(s.Total)
			}
			if !s.UpdatedAt.IsZero() {
				updated = ago(s.UpdatedAt, time.Now()) + " ago"
			}
			rows[i] = []string{s.Name, s.Outbox, s.State.State, number(s.Rows), of, updated}
		}
		return out.print(cmd.OutOrStdout(), all, []string{"BACKFILL", "OUTBOX", "STATE", "ROWS", "OF ABOUT", "MOVED"}, rows)
	}
	return cmd
}

func newBackfillReset(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset NAME",
		Short: "Forget how far a backfill has come, so that it begins anew",
		Long: `Forget how far a backfill has come. The events that it wrote stay: begun anew,
it writes a second snapshot of each row, which changes nothing in a sink that
folds them.`,
		Example: "  millrace backfill reset orders",
		Args:    takes("NAME"),
	}
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		c, err := a.load()
		if err != nil {
			return err
		}
		only := ""
		if b := c.Backfills[got[0]]; b != nil {
			only = b.Outbox
		}
		name, o, err := c.outbox(only)
		if err != nil {
			return err
		}
		conn, err := connect(cmd.Context(), o)
		if err != nil {
			return fmt.Errorf("outbox %s: %w", name, err)
		}
		defer conn.Close(context.WithoutCancel(cmd.Context()))
		did, err := backfill.Reset(cmd.Context(), conn, o.schema(), got[0])
		if err != nil {
			return err
		}
		if !did {
			return fmt.Errorf("backfill %s has not begun: \"millrace backfill status\" lists those that have", got[0])
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: forgotten; the events that it wrote stay\n", got[0])
		return err
	}
	return cmd
}
