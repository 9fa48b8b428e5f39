package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/millrace/millrace/services/relay"
)

func newParkedDiscard(a *app) *cobra.Command {
	var which selecting
	var ask asking
	var yes, hold bool
	var why string
	cmd := &cobra.Command{
		Use:   "discard [EVENT_ID...]",
		Short: "Drop parked events for good; what waited only for them is released",
		Long: `Drop parked events for good: they will never be published. Exactly those are
dropped that are parked now and that the command names; it shows them and asks
first, unless --yes.

What waited behind a dropped event, and for nothing else, is released by itself
then. With --hold it stays parked until it is released.

That they were dropped, when, by whom and why (--why) stays on record with the
parked events: "millrace verify" and "millrace trace" tell it.`,
		Example: `  millrace parked discard 7b1f6a3e-52cb-4a1e-9d7f-3c1d2e4f5a6b
  millrace parked discard --topic shop.orders --key o-17 --yes
  millrace parked discard --reason body --hold --why "test data of the importer"`,
		Args: cobra.ArbitraryArgs,
	}
	which.flags(cmd, "the events that are parked for this `REASON`, and not those behind them")
	ask.flags(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&hold, "hold", false, "keep parked what waits behind the dropped events")
	cmd.Flags().StringVar(&why, "why", "", "`WORDS` that stay on record: why they are dropped")
	cmd.RunE = func(cmd *cobra.Command, texts []string) error {
		selection, err := which.selection(cmd, texts)
		if err != nil {
			return err
		}
		q, err := ask.open(cmd, a)
		if err != nil {
			return err
		}
		defer q.close()
		ids, err := q.toDiscard(cmd, selection, yes)
		if err != nil {
			return err
		}
		answer, err := q.discard(cmd, ids, hold, why)
		if err != nil {
			return err
		}
		return q.print(cmd.OutOrStdout(), answer)
	}
	return cmd
}

// toDiscard finds the events that are parked now and meant, and has a person confirm.
func (q *question) toDiscard(cmd *cobra.Command, s relay.Selection, yes bool) ([]uuid.UUID, error) {
	x, err := q.config.openParked(cmd, q.name, s)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	if !yes && x.Len() > 0 {
		if err := confirm(cmd, q.name, x); err != nil {
			return nil, err
		}
	}
	if len(s.Events) > 0 {
		return s.Events, nil // those that are not parked are told by the answer
	}
	return x.IDs(), nil
}

// discard asks for as many requests as it takes, one after the other.
func (q *question) discard(cmd *cobra.Command, ids []uuid.UUID, hold bool, why string) (*relay.Answer, error) {
	all := &relay.Answer{}
	for some := range slices.Chunk(ids, relay.MaxNamed) {
		id, err := q.asker.Discard(cmd.Context(), some, hold, why)
		answer, err := q.wait(cmd.Context(), "discard", id, err)
		if err != nil {
			return nil, err
		}
		if all.Join(answer); all.Refused != "" {
			break
		}
	}
	return all, nil
}

// confirm asks a person. A script must say --yes: nobody is there to answer.
func confirm(cmd *cobra.Command, outbox string, x *relay.ParkedIndex) error {
	what := count(int64(x.Len()), "event", "events") + " of outbox " + outbox
	if in, ok := cmd.InOrStdin().(*os.File); ok && !term.IsTerminal(int(in.Fd())) {
		return usagef("%s would be dropped for good: say --yes", what)
	}
	list, err := some(cmd.Context(), x)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s\nDrop %s for good? [y/N] ", list, what)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return fmt.Errorf("nothing was dropped")
	}
	return nil
}
