package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newRelayDrain(a *app) *cobra.Command {
	var ask asking
	var pause bool
	var reason string
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Wait until everything committed so far is published, and pause then if wanted",
		Long: `Wait until everything is published, or parked, that was committed before the
command was given. What is committed later is published as well, unless --pause:
then the outbox is paused in the moment in which it is drained, until "millrace
relay resume". Exit status 1 if it is paused meanwhile.`,
		Example: "  millrace relay drain\n  millrace relay drain --pause --reason upgrade --timeout 5m",
		Args:    takes(),
	}
	ask.flags(cmd)
	cmd.Flags().BoolVar(&pause, "pause", false, "pause the outbox when it is drained")
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`, with --pause")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if reason != "" && !pause {
			return usagef("--reason goes with --pause")
		}
		q, err := ask.open(cmd, a)
		if err != nil {
			return err
		}
		defer q.close()
		id, err := q.asker.Drain(cmd.Context(), pause, reason)
		answer, err := q.wait(cmd.Context(), "drain", id, err)
		if err != nil {
			return err
		}
		if answer.Refused != "" {
			return fmt.Errorf("outbox %s is not drained: %s", q.name, answer.Refused)
		}
		if *q.out == "json" {
			return q.out.print(cmd.OutOrStdout(), pauseAnswer{q.name, answer.Pause, true, answer.Seq}, nil, nil)
		}
		text := fmt.Sprintf("outbox %s is drained: published up to seq %s", q.name, number(answer.Seq))
		if answer.Pause != nil {
			text += ", and it " + pauseText(answer.Pause.By, answer.Pause.Since, answer.Pause.Reason)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), clean(text))
		return err
	}
	return cmd
}
