package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/relay"
)

func newParked(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "parked",
		Short:   "Look at the events that the relay holds because they cannot be published, release or discard them",
		Example: "  millrace parked list\n  millrace parked show 7b1f6a3e-52cb-4a1e-9d7f-3c1d2e4f5a6b\n  millrace parked release --all",
	}
	return family(cmd, newParkedList(a), newParkedShow(a), newParkedRelease(a), newParkedDiscard(a))
}

func newParkedList(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List parked events, each key's in order, with the reason",
		Long: `List parked events, each key's in order, with the reason. Nothing is lost: a
parked event waits, and its key's later events wait behind it, so that their
order is kept. Everything else goes on. -o json shows the events themselves, and
"millrace parked show" one of them.`,
		Example: "  millrace parked list\n  millrace parked list -o json",
		Args:    takes(),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&name, "outbox", "", "`NAME` of the outbox, where there is more than one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.load()
		if err != nil {
			return err
		}
		name, _, err := c.outbox(name)
		if err != nil {
			return err
		}
		opts, err := c.Kafka.options()
		if err != nil {
			return err
		}
		list, err := relay.ListParked(cmd.Context(), opts, name)
		if err != nil {
			return err
		}
		rows := make([][]string, len(list))
		for i, p := range list {
			detail := p.Detail
			if p.Reason == relay.ReasonBehind {
				detail = "waits for its key's event above"
			}
			if p.Alone {
				detail = "(by itself) " + detail
			}
			rows[i] = []string{p.ParkedAt.UTC().Format(time.DateTime), p.Topic, p.Key, p.Type, p.EventID.String(),
				string(p.Reason), cmp.Or(p.Field, "-"), detail}
		}
		if len(list) == 0 && *out != "json" {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "(no event of outbox %s is parked)\n", name)
			return err
		}
		return out.print(cmd.OutOrStdout(), append([]*relay.Parked{}, list...), []string{"PARKED", "TOPIC", "KEY", "TYPE", "EVENT", "REASON", "FIELD", "DETAIL"}, rows)
	}
	return cmd
}
