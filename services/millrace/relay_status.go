package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/relay"
)

func newRelayStatus(a *app) *cobra.Command {
	var only string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show who leads each outbox, how far it is published, what is parked, and whether it is paused",
		Long: `Show who leads each outbox, how far it is published, what is parked, what the
table retains, and whether it is paused. It asks Postgres and Kafka and no
relay, so it answers from any machine, and also when no relay runs. Exit status
1 if one cannot be told.`,
		Example: "  millrace relay status\n  millrace relay status --outbox shop -o json",
		Args:    takes(),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&only, "outbox", "", "only the outbox of this `NAME` (default: all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.load()
		if err != nil {
			return err
		}
		names, err := c.outboxNames(only)
		if err != nil {
			return err
		}
		all, err := c.standings(cmd.Context(), cmd.ErrOrStderr(), names)
		if err != nil {
			return err
		}
		return printStandings(cmd.OutOrStdout(), out, all)
	}
	return cmd
}

// outboxStanding is one outbox of `relay status`.
type outboxStanding struct {
	Name string `json:"name"`
	relay.Standing
	Error string `json:"error,omitempty"`
}

// standings asks about all outboxes at once: one that does not answer keeps nobody waiting for the rest. w is told what is waited for.
func (c *Config) standings(ctx context.Context, w io.Writer, names []string) ([]outboxStanding, error) {
	opts, err := c.Kafka.options()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	waiting := await(w)
	defer waiting.stop()
	unheard := c.Kafka.reach(ctx)
	waiting.came("Kafka")
	all := make([]outboxStanding, len(names))
	var looking sync.WaitGroup
	for i, name := range names {
		waiting.forThese("outbox " + name)
		looking.Go(func() {
			defer waiting.came("outbox " + name)
			cfg := c.Outboxes[name].Config
			cfg.Outbox, cfg.Kafka, cfg.Schema = name, opts, c.Outboxes[name].schema()
			s, err := relay.Standing{Progress: relay.Progress{Outbox: name}}, unheard
			if err == nil {
				s, err = relay.Stand(ctx, cfg)
			}
			all[i] = outboxStanding{Name: name, Standing: s, Error: outboxAt(name).text(err)}
		})
	}
	looking.Wait()
	return all, nil
}

func printStandings(w io.Writer, out *format, all []outboxStanding) error {
	var rows [][]string
	var notes []string
	failed := false
	now := time.Now()
	for _, s := range all {
		if s.Error != "" {
			failed = true
			notes = append(notes, "outbox "+s.Name+": "+s.Error)
			rows = append(rows, []string{s.Name, "?", "?", "?", "?", "?", "?", "?", "?"})
			continue
		}
		leader, paused, cursor := "nobody", "-", "not begun"
		if s.Leader != nil {
			leader = fmt.Sprintf("%s (backend %d)", place(s), s.Leader.PID)
		}
		if s.Pause != nil {
			paused = ago(s.Pause.Since, now)
			notes = append(notes, "outbox "+s.Name+" "+pauseText(s.Pause.By, s.Pause.Since, s.Pause.Reason))
		}
		if !s.CursorTime.IsZero() {
			cursor = ago(s.CursorTime, now) + " ago"
		}
		rows = append(rows, []string{s.Name, leader, number(s.Seq), number(s.Behind), ago(s.Oldest, now), number(s.Parked), retained(s.Retention, now), paused, cursor})
		if s.Retention.Delayed != "" {
			notes = append(notes, stays(s.Name, s.Retention))
		}
	}
	if err := out.print(w, all, []string{"OUTBOX", "LEADER", "PUBLISHED", "BEHIND", "OLDEST", "PARKED", "RETAINED", "PAUSED FOR", "CURSOR"}, rows); err != nil {
		return err
	}
	if len(notes) > 0 && *out != "json" {
		fmt.Fprintf(w, "\n%s\n", cleanLines(notes))
	}
	if failed {
		return errQuiet
	}
	return nil
}

// place is where a leader's session comes from.
func place(s outboxStanding) string {
	if s.Leader.Address == "" {
		return s.Leader.Application
	}
	return s.Leader.Application + " at " + s.Leader.Address
}

// cleanLines cleans lines and keeps them apart.
func cleanLines(lines []string) string {
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	return strings.Join(lines, "\n")
}
