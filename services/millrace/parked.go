package main

import "github.com/spf13/cobra"

func newParked(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "parked",
		Short:   "Look at the events that the relay holds because they cannot be published, release or discard them",
		Example: "  millrace parked list\n  millrace parked show 7b1f6a3e-52cb-4a1e-9d7f-3c1d2e4f5a6b\n  millrace parked release --all",
	}
	return family(cmd, newParkedList(a), newParkedShow(a), newParkedRelease(a), newParkedDiscard(a))
}
