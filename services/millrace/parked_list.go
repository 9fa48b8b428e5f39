package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/relay"
)

// listLimit is how many parked events are listed as a table unless the command says otherwise.
const listLimit = 100

func newParkedList(a *app) *cobra.Command {
	var which selecting
	var name string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List parked events, each key's in order, with the reason",
		Long: `List parked events, each key's in order, with the reason. Nothing is lost: a
parked event waits, and its key's later events wait behind it, so that their
order is kept. Everything else goes on. -o json shows the events themselves, and
"millrace parked show" one of them.

A table shows the first 100 and says how many more there are; -o json shows all.
--limit says otherwise. Reasons: ` + wrapped(reasonNames(), 78, 33) + `.`,
		Example: `  millrace parked list
  millrace parked list --reason body --limit 0
  millrace parked list --topic shop.orders --key o-17 -o json`,
		Args: takes(),
	}
	out := output(cmd)
	which.flags(cmd, "the events that are parked for this `REASON`, and not those behind them")
	cmd.Flags().StringVar(&name, "outbox", "", "`NAME` of the outbox, where there is more than one")
	cmd.Flags().IntVar(&limit, "limit", listLimit, "show the first `N`; 0 for all (default with -o json)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limit < 0 {
			return usagef("--limit %d is no number of events", limit)
		}
		if *out == "json" && !cmd.Flags().Changed("limit") {
			limit = 0
		}
		if !which.any() {
			which.all = true
		}
		selection, err := which.selection(cmd, nil)
		if err != nil {
			return err
		}
		c, err := a.load()
		if err != nil {
			return err
		}
		name, _, err := c.outbox(name)
		if err != nil {
			return err
		}
		x, err := c.openParked(cmd, name, selection)
		if err != nil {
			return err
		}
		defer x.Close()
		if *out == "json" {
			return listJSON(cmd, x, limit)
		}
		return listTable(cmd, x, limit, name, !which.all)
	}
	return cmd
}

// openParked reads the parked topic of an outbox, and tells how far it is where that takes long. The caller closes.
func (c *Config) openParked(cmd *cobra.Command, name string, s relay.Selection) (*relay.ParkedIndex, error) {
	opts, err := c.Kafka.options()
	if err != nil {
		return nil, err
	}
	p := newSteps(cmd.ErrOrStderr())
	defer p.stop()
	return relay.OpenParked(cmd.Context(), opts, name, s, func(read, total int64) {
		p.at("reading the parked topic of outbox "+name, read, total)
	})
}

// listJSON prints an array, an event at a time.
func listJSON(cmd *cobra.Command, x *relay.ParkedIndex, limit int) error {
	w := cmd.OutOrStdout()
	between := "["
	err := x.Each(cmd.Context(), limit, func(p *relay.Parked) error {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("  ", "  ")
		if err := enc.Encode(p); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "%s\n  %s", between, bytes.TrimSpace(b.Bytes()))
		between = ","
		return err
	})
	if err != nil {
		return err
	}
	if between == "[" {
		_, err = fmt.Fprintln(w, "[]")
	} else {
		_, err = fmt.Fprintln(w, "\n]")
	}
	if more := x.Len() - limit; limit > 0 && more > 0 && err == nil {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s more: --limit 0 shows all\n", number(int64(more)))
	}
	return err
}

// listRows is how many rows are aligned with each other: a longer list is printed in parts, and not held.
const listRows = 500

func listTable(cmd *cobra.Command, x *relay.ParkedIndex, limit int, name string, selected bool) error {
	w := cmd.OutOrStdout()
	if x.Len() == 0 {
		what := "no event"
		if selected {
			what = "no such event"
		}
		_, err := fmt.Fprintf(w, "(%s of outbox %s is parked)\n", what, name)
		return err
	}
	var rows [][]string
	err := x.Each(cmd.Context(), limit, func(p *relay.Parked) error {
		rows = append(rows, parkedRow(p))
		if len(rows) < listRows {
			return nil
		}
		err := printParked(w, rows)
		rows = rows[:0]
		return err
	})
	if err == nil && len(rows) > 0 {
		err = printParked(w, rows)
	}
	if err != nil || limit == 0 || x.Len() <= limit {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s of %s are shown: %s. --limit 0 shows all; --reason R, or --topic T --key K, some.\n",
		number(int64(limit)), count(int64(x.Len()), "parked event", "parked events"), reasonCounts(x.Reasons()))
	return err
}

func printParked(w io.Writer, rows [][]string) error {
	return table(w, []string{"PARKED", "TOPIC", "KEY", "TYPE", "EVENT", "REASON", "FIELD", "DETAIL"}, rows)
}

func parkedRow(p *relay.Parked) []string {
	detail := p.Detail
	if p.Reason == relay.ReasonBehind {
		detail = "waits for its key's event above"
	}
	if p.Alone {
		detail = "(by itself) " + detail
	}
	return []string{p.ParkedAt.UTC().Format(time.DateTime), p.Topic, p.Key, p.Type, p.EventID.String(), string(p.Reason), cmp.Or(p.Field, "-"), detail}
}

// reasonCounts is "12 schema, 99,988 behind".
func reasonCounts(n map[relay.Reason]int) string {
	var parts []string
	for _, r := range relay.Reasons() {
		if n[r] > 0 {
			parts = append(parts, number(int64(n[r]))+" "+string(r))
		}
	}
	return strings.Join(parts, ", ")
}
