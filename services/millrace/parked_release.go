package main

import "github.com/spf13/cobra"

func newParkedRelease(a *app) *cobra.Command {
	var which selecting
	var ask asking
	cmd := &cobra.Command{
		Use:   "release [EVENT_ID...]",
		Short: "Publish parked events in order: each key's from the first that is parked",
		Long: `Publish parked events in order, each exactly once, with the versions that come
next. The relay frames them anew, as if they came now: mend first what was wrong
with them (push the schema, raise the topic's limit).

A key's events are released from the first that is parked, so an event in the
middle means all of its key. What still cannot be published stays, with what is
behind it, and the answer says why. Exit status 1 if something stays. What
arrives for the key meanwhile queues behind, so that the order holds.

The relay that leads does it, wherever it runs; it looks about once a second.`,
		Example: `  millrace parked release 7b1f6a3e-52cb-4a1e-9d7f-3c1d2e4f5a6b
  millrace parked release --topic shop.orders --key o-17
  millrace parked release --reason schema
  millrace parked release --all -o json`,
		Args: cobra.ArbitraryArgs,
	}
	which.flags(cmd, "the lines whose first event is parked for this `REASON`")
	ask.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		selection, err := which.selection(cmd, ids)
		if err != nil {
			return err
		}
		q, err := ask.open(cmd, a)
		if err != nil {
			return err
		}
		defer q.close()
		id, err := q.asker.Release(cmd.Context(), selection)
		answer, err := q.wait(cmd.Context(), "release", id, err)
		if err != nil {
			return err
		}
		return q.print(cmd.OutOrStdout(), answer)
	}
	return cmd
}
