package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
)

func newDLQ(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dlq",
		Short:   "Look at the events that a sink could not apply, apply them after all or drop them",
		Example: "  millrace dlq list --keys\n  millrace dlq show shop.orders/3/4711\n  millrace dlq redrive --topic shop.orders --key o-17\n  millrace dlq discard --topic shop.orders --key o-17",
	}
	return family(cmd, newDLQList(a), newDLQShow(a), newDLQRedrive(a), newDLQDiscard(a))
}

// letterBox is how the dlq commands are told which sink and which letters.
type letterBox struct {
	sink         string
	filter       dlq.Filter
	since, until string
}

// sinkFlag adds --sink.
func (b *letterBox) sinkFlag(cmd *cobra.Command, a *app) {
	cmd.Flags().StringVar(&b.sink, "sink", "", "`NAME` of the sink, where there is more than one")
	_ = cmd.RegisterFlagCompletionFunc("sink", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		c, err := a.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return sorted(c.Sinks), cobra.ShellCompDirectiveNoFileComp
	})
}

// flags adds --sink and the filters.
func (b *letterBox) flags(cmd *cobra.Command, a *app) {
	b.sinkFlag(cmd, a)
	cmd.Flags().StringVar(&b.filter.Topic, "topic", "", "events of `TOPIC`")
	cmd.Flags().StringVar(&b.filter.Key, "key", "", "events of `KEY`")
	cmd.Flags().StringVar(&b.filter.Type, "type", "", "events of `TYPE`, such as shop.OrderPlaced")
	cmd.Flags().StringVar(&b.filter.Class, "class", "", "`CLASS`: poison (cannot be applied), quarantined (waits)")
	cmd.Flags().StringVar(&b.since, "since", "", "put aside at `TIME` or later: RFC 3339, or 2h, 7d ago")
	cmd.Flags().StringVar(&b.until, "until", "", "put aside before `TIME`")
	_ = cmd.RegisterFlagCompletionFunc("class", cobra.FixedCompletions([]string{consumers.LetterPoison, consumers.LetterQuarantined}, cobra.ShellCompDirectiveNoFileComp))
}

// check makes the filter of what the flags say.
func (b *letterBox) check(now time.Time) error {
	if c := b.filter.Class; c != "" && c != consumers.LetterPoison && c != consumers.LetterQuarantined {
		return usagef("--class %q is none of %s, %s", c, consumers.LetterPoison, consumers.LetterQuarantined)
	}
	var err error
	if b.filter.Since, err = moment("--since", b.since, now); err != nil {
		return err
	}
	b.filter.Until, err = moment("--until", b.until, now)
	return err
}

// moment reads a time, or how long ago it is.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 36500 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, usagef("%s %q is neither a time (2026-03-01T10:00:00Z) nor how long ago it is (90m, 2h, 7d)", flag, text)
	}
	return now.Add(-d), nil
}

// letterDesk is a sink whose dead letters are looked at.
type letterDesk struct {
	*dlq.Desk
	config *Config
	name   string
	kafka  []kgo.Opt
}

// desk finds the sink.
func (b *letterBox) desk(a *app) (*letterDesk, error) {
	c, err := a.load()
	if err != nil {
		return nil, err
	}
	names := sorted(c.Sinks)
	switch {
	case len(names) == 0:
		return nil, c.file.Errorf("sinks", "is missing")
	case b.sink == "" && len(names) > 1:
		return nil, usagef("there are %d sinks: say which with --sink (%s)", len(names), strings.Join(names, ", "))
	case b.sink != "" && !slices.Contains(names, b.sink):
		return nil, c.file.Errorf("sinks", "has no %q (it has %q)", b.sink, names)
	}
	opts, err := c.Kafka.options()
	if err != nil {
		return nil, err
	}
	d := &letterDesk{config: c, name: cmp.Or(b.sink, names[0]), kafka: opts}
	d.Desk = dlq.New(d.name, opts...)
	return d, nil
}

// placeText names an event by where it stands on its topic.
func placeText(tp consumers.TopicPartition, offset int64) string {
	return fmt.Sprintf("%s/%d/%d", tp.Topic, tp.Partition, offset)
}

// keyText is a key for a table.
func keyText(key string, has bool) string {
	if !has {
		return "(no usable key)"
	}
	return key
}
