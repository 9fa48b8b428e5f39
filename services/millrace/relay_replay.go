package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/relay"
)

func newRelayReplay(a *app) *cobra.Command {
	var name, from, until string
	var opts relay.ReplayOptions
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Write retained events once more, into a topic of their own",
		Long: `Write events that the outbox still retains once more, in the order of their
ids, into a topic that is no outbox's: for a consumer that missed some, or to
look at what was published. No relay need run, and none is disturbed. What a
topic holds, and the table may not any more, "millrace replay" copies.

Records have the key, value and headers of the first time, and the header
millrace-replayed with the time of the replay instead of millrace-seq, which the
table does not hold. What was not published yet is not replayed, nor what is
parked; what was discarded is, for the table does not know of it.

Rows that retention has taken, before or meanwhile, are named. A replay that is
interrupted says where to go on, with all other flags as they were: after a TIME
with --from TIME,ID. The events of the page at hand, 1,000 at most, may be
written again then, with the same ce_id. Exit status 1 if some events could not
be replayed.`,
		Example: `  millrace relay replay --from 2026-01-31T10:00:00Z --to shop.orders.replay --dry-run
  millrace relay replay --from 2026-01-31T10:00:00Z --until 2026-01-31T11:00:00Z --key o-17 --to debug
  millrace relay replay --from 4294967401 --type shop.OrderPlaced --to audit --rate 500 -o json`,
		Args: takes(),
	}
	out := output(cmd)
	flags := cmd.Flags()
	flags.StringVar(&name, "outbox", "", "`NAME` of the outbox, where there is more than one")
	flags.StringVar(&from, "from", "", "`TIME|ID` to begin at: when it occurred, or the id of its row; \"start\" for all that is retained; TIME,ID to go on")
	flags.StringVar(&until, "until", "", "`TIME|ID` to end at (default: what is published now)")
	flags.StringVar(&opts.Key, "key", "", "only the events of this `KEY`")
	flags.StringVar(&opts.Type, "type", "", "only the events of this `TYPE`, such as shop.OrderPlaced")
	flags.StringVar(&opts.To, "to", "", "the `TOPIC` to write to; it is made if it does not exist")
	flags.IntVar(&opts.Rate, "rate", 0, "at most so many `EVENTS` a second")
	flags.BoolVar(&opts.DryRun, "dry-run", false, "count what would be replayed, and write nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if opts.To == "" || from == "" {
			return usagef("say where from and where to: --from TIME|ID --to TOPIC")
		}
		if opts.Rate < 0 {
			return usagef("--rate %d is no number of events a second", opts.Rate)
		}
		var err error
		if opts.FromID, opts.From, err = beginning(from); err != nil {
			return err
		}
		if opts.UntilID, opts.Until, err = timeOrID("until", until); err != nil {
			return err
		}
		c, err := a.load()
		if err != nil {
			return err
		}
		return c.replay(cmd, name, opts, out)
	}
	return cmd
}

// beginning reads where to begin: an id of a row, a time, or, to go on after one was interrupted, both.
func beginning(text string) (id int64, at time.Time, err error) {
	since, next, both := strings.Cut(text, ",")
	if !both {
		return timeOrID("from", text)
	}
	if _, at, err = timeOrID("from", since); err != nil {
		return 0, time.Time{}, err
	}
	if id, err = strconv.ParseInt(next, 10, 64); err != nil || id <= 0 || at.IsZero() {
		return 0, time.Time{}, usagef("--from %q is not a time and the id of a row, such as 2026-01-31T10:00:00Z,4294967401", text)
	}
	return id, at, nil
}

// goOn is what --from must say to go on at a row. A time holds for the rest as well: rows lie in the order of their ids.
func goOn(opts *relay.ReplayOptions, next int64) string {
	if opts.From.IsZero() {
		return strconv.FormatInt(next, 10)
	}
	return opts.From.Format(time.RFC3339Nano) + "," + strconv.FormatInt(next, 10)
}

// timeOrID reads an id of a row, or a time.
func timeOrID(flag, text string) (id int64, at time.Time, err error) {
	if text == "" || text == "start" && flag == "from" {
		return 0, time.Time{}, nil
	}
	if id, err = strconv.ParseInt(text, 10, 64); err == nil && id > 0 {
		return id, time.Time{}, nil
	}
	if at, err = time.Parse(time.RFC3339, text); err != nil {
		return 0, time.Time{}, usagef("--%s %q is neither the id of a row nor a time such as 2026-01-31T10:00:00Z", flag, text)
	}
	return 0, at, nil
}

func (c *Config) replay(cmd *cobra.Command, name string, opts relay.ReplayOptions, out *format) error {
	name, o, err := c.outbox(name)
	if err != nil {
		return err
	}
	for _, other := range sorted(c.Outboxes) {
		if _, theirs := c.Outboxes[other].Topics[opts.To]; theirs {
			return fmt.Errorf("%w: %s is a topic of outbox %s", relay.ErrReplayTopic, opts.To, other)
		}
	}
	cfg := o.Config
	cfg.Outbox = name
	if cfg.Kafka, err = c.Kafka.options(); err != nil {
		return err
	}
	if cfg.Registry, err = c.registry(); err != nil {
		return err
	}
	p := newSteps(cmd.ErrOrStderr())
	defer p.stop()
	opts.Progress = func(at relay.Replaying) {
		p.at(fmt.Sprintf("replaying, %s sent, %s a second, at row %d: rows looked at", number(at.Sent), number(int64(at.Rate)), at.ID), at.Looked, at.Total)
	}
	did, err := relay.Replay(cmd.Context(), cfg, opts)
	p.stop()
	return printReplayed(cmd.OutOrStdout(), out, did, goOn(&opts, did.Next), err)
}

func printReplayed(w io.Writer, out *format, did relay.Replayed, next string, err error) error {
	if *out == "json" && did.Next+did.Looked > 0 {
		if err := out.print(w, did, nil, nil); err != nil {
			return err
		}
		return replayError(did, next, err)
	}
	verb := "replayed"
	if did.DryRun {
		verb = "to be replayed (dry run: nothing was written)"
	}
	if err == nil || did.Looked > 0 || did.Sent > 0 {
		fmt.Fprintf(w, "%s %s into %s, of %s looked at, in %s\n", count(did.Sent, "event", "events"), verb, did.To, count(did.Looked, "row", "rows"),
			short(time.Duration(did.Seconds*float64(time.Second))))
	}
	for _, g := range did.Gone {
		fmt.Fprintf(w, "rows %d to %d are not retained any more\n", g.From, g.To)
	}
	if did.Parked > 0 {
		fmt.Fprintf(w, "%s left out: parked\n", count(did.Parked, "event", "events"))
	}
	for _, u := range did.Unsent {
		fmt.Fprintf(w, "not replayed: row %d, event %s: %s\n", u.ID, u.EventID, clean(u.Reason))
	}
	if more := did.Unfit - int64(len(did.Unsent)); more > 0 {
		fmt.Fprintf(w, "not replayed: %s more\n", count(more, "event", "events"))
	}
	return replayError(did, next, err)
}

// replayError is what a replay ends with: where to go on, next, or that not everything could be replayed.
func replayError(did relay.Replayed, next string, err error) error {
	switch {
	case err != nil && did.Next > 0 && errors.Is(err, context.Canceled):
		return &leftError{"interrupted: go on with --from " + next}
	case err != nil && did.Next > 0:
		return fmt.Errorf("%w; go on with --from %s", err, next)
	case err != nil:
		return err
	case did.Unfit > 0:
		return errQuiet
	}
	return nil
}
