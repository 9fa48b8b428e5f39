package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/millrace/replay"
)

func newReplay(a *app) *cobra.Command {
	var since, until string
	cfg := replay.Config{}
	cmd := &cobra.Command{
		Use:   "replay --topic TOPIC --since TIME|OFFSET --into TOPIC",
		Short: "Copy a range of a topic into another one, marked as replayed",
		Long: `Copy the committed records of a range of a topic into another one: for a
consumer that missed some, or to look at what was published. Nothing is written
to a topic of an outbox. By default the range ends with what is there when the
copying begins.

This copies what a topic holds. What the outbox's table still holds is copied by
"millrace relay replay": where the topic lost it, or holds it wrong.

A copy has the key, value, time and headers of its record, and says where that
stood: millrace-source-topic, -partition and -offset. Its millrace-replayed is
the time of the replay; millrace-seq, which counts in the source, is called
millrace-source-seq. Records of a key stay in order, in the partition that the
relay would choose.

TIME is RFC 3339 and compared with the records' times; OFFSET is one for all
partitions, or PARTITION:OFFSET,... for those partitions alone. --since includes
its bound, --until does not.

Copies and the note of how far the run has come are committed together. After a
crash or Ctrl-C the same command goes on, to the end that was meant at first,
without repeating or leaving out any. What retention took before it was copied
is named. Two into one TOPIC at the same time: the later one stops the earlier.`,
		Example: `  millrace replay --topic shop.orders --since 2026-01-31T10:00:00Z --until 2026-01-31T11:00:00Z --into orders.again --dry-run
  millrace replay --topic shop.orders --since 0:1200,3:0 --into debug --key o-17
  millrace replay --topic shop.orders --since start --into orders.again --type shop.OrderPlaced --rate 500 -o json`,
		Args: takes(),
	}
	out := output(cmd)
	flags := cmd.Flags()
	flags.StringVar(&cfg.Topic, "topic", "", "the `TOPIC` to copy from")
	flags.StringVar(&since, "since", "", "`TIME|OFFSET` to begin at; \"start\" for all that is there")
	flags.StringVar(&until, "until", "", "`TIME|OFFSET` to end before (default: what is there now)")
	flags.StringVar(&cfg.Into, "into", "", "the `TOPIC` to write to; it is made if it does not exist")
	flags.StringVar(&cfg.Key, "key", "", "only the records of this `KEY`")
	flags.StringVar(&cfg.Type, "type", "", "only the events of this `TYPE`, such as shop.OrderPlaced")
	flags.IntVar(&cfg.Rate, "rate", 0, "at most so many `RECORDS` a second")
	flags.BoolVar(&cfg.DryRun, "dry-run", false, "count what would be copied, and write nothing")
	flags.BoolVar(&cfg.Restart, "restart", false, "forget an unfinished replay into the topic; its copies stay there")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cfg.Topic == "" || cfg.Into == "" || since == "" {
			return usagef("say what, since when and where to: --topic TOPIC --since TIME|OFFSET --into TOPIC")
		}
		if cfg.Rate < 0 {
			return usagef("--rate %d is no number of records a second", cfg.Rate)
		}
		if since == "start" {
			since = ""
		}
		var err error
		if cfg.Since, err = replay.ParseBound(since); err != nil {
			return usagef("--since %w", err)
		}
		if cfg.Until, err = replay.ParseBound(until); err != nil {
			return usagef("--until %w", err)
		}
		c, err := a.load()
		if err != nil {
			return err
		}
		return c.copyTopic(cmd, cfg, out)
	}
	return cmd
}

func (c *Config) copyTopic(cmd *cobra.Command, cfg replay.Config, out *format) (err error) {
	if cfg.Kafka, err = c.Kafka.options(); err != nil {
		return err
	}
	if cfg.Registry, err = c.registry(); err != nil {
		return err
	}
	cfg.Outboxes = map[string][]string{}
	for name, o := range c.Outboxes {
		cfg.Outboxes[name] = sorted(o.Topics)
	}
	bar := newProgress(cmd.ErrOrStderr(), "replaying "+cfg.Topic)
	cfg.Progress = bar.at
	did, err := replay.Run(cmd.Context(), cfg)
	bar.end()
	return printCopied(cmd.OutOrStdout(), out, did, err)
}

func printCopied(w io.Writer, out *format, did replay.Result, err error) error {
	began := did.Done || did.Sent+did.Before > 0
	switch {
	case began && *out == "json":
		if printed := out.print(w, did, nil, nil); printed != nil {
			return printed
		}
	case began:
		verb := "copied"
		if did.DryRun {
			verb = "to be copied (dry run: nothing was written)"
		}
		fmt.Fprintf(w, "%s %s into %s, of %s of %s looked at, in %s\n", count(did.Sent, "record", "records"), verb, did.Into,
			number(did.Looked), did.Topic, short(time.Duration(did.Seconds*float64(time.Second))))
		if did.Resumed {
			fmt.Fprintf(w, "%s before, by the replay begun at %s that this one went on with\n", count(did.Before, "record", "records"), did.At.Format(time.RFC3339))
		}
		for _, g := range did.Gone {
			fmt.Fprintf(w, "partition %d: offsets %d to %d are not there any more\n", g.Partition, g.From, g.To)
		}
	}
	switch {
	case err == nil || did.DryRun || errors.Is(err, replay.ErrUnfinished) || errors.Is(err, replay.ErrForbidden) || errors.Is(err, replay.ErrNoTopic):
		return err
	case errors.Is(err, context.Canceled):
		return &leftError{"interrupted: the same command goes on where this one ended"}
	case !began:
		return err
	}
	return fmt.Errorf("%w; the same command goes on where this one ended", err)
}
