package main

import "github.com/spf13/cobra"

func newRelay(a *app) *cobra.Command {
	var only, listen string
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Publish the outboxes to Kafka; start a second one anywhere as a standby",
		Long: `Publish the outboxes to Kafka, in order and exactly once. Of several relays of
one outbox one publishes and the others stand by; a standby takes over within
seconds when the leader is gone.`,
		Example: "  millrace relay\n  millrace relay --outbox shop --listen 127.0.0.1:8090",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, got []string) error {
			if len(got) > 0 {
				return unknown(cmd, got[0])
			}
			return a.serve(cmd, listen, func(c *Config) (choice, error) {
				names, err := c.outboxNames(only)
				return choice{outboxes: names}, err
			})
		},
	}
	cmd.Flags().StringVar(&only, "outbox", "", "only the outbox of this `NAME` (default: all)")
	listenFlag(cmd, &listen)
	cmd.AddCommand(newRelayPause(a), newRelayResume(a), newRelayDrain(a), newRelayStatus(a), newRelayReanchor(a), newRelayReplay(a))
	return cmd
}
