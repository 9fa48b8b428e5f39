package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
)

// settling is what `dlq redrive` and `dlq discard` have in common.
type settling struct {
	letterBox
	everything bool // every key
	wait       time.Duration
	out        *format
}

func (s *settling) flags(cmd *cobra.Command, a *app) {
	s.letterBox.flags(cmd, a)
	cmd.Flags().BoolVar(&s.everything, "all", false, "every key that is quarantined")
	cmd.Flags().DurationVar(&s.wait, "wait", time.Minute, "how long to wait for the answer, 0 for not; the request stays")
	s.out = output(cmd)
}

// choose returns the keys that the filters mean.
func (s *settling) choose(cmd *cobra.Command, a *app) (*letterDesk, []dlq.Key, error) {
	if err := s.check(time.Now()); err != nil {
		return nil, nil, err
	}
	switch {
	case s.filter.Any() && !s.everything:
		return nil, nil, usagef("say which: --topic, --key, --type, --class, --since, --until, or --all")
	case s.wait < 0:
		return nil, nil, usagef("--wait %v is below 0", s.wait)
	}
	d, err := s.desk(a)
	if err != nil {
		return nil, nil, err
	}
	keys, err := d.Keys(cmd.Context(), s.filter)
	if err != nil {
		return nil, nil, err
	}
	_, projections, err := d.config.declarations()
	if err != nil {
		return nil, nil, err
	}
	_, topics, err := d.config.Sinks[d.name].Resolve(projections)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range keys {
		if !slices.Contains(topics, k.Topic) {
			return nil, nil, fmt.Errorf("sink %s does not follow %s any more: nobody could settle what it put aside of it (choose with --topic: %s)",
				d.name, k.Topic, strings.Join(topics, ", "))
		}
	}
	return d, keys, nil
}

func newDLQRedrive(a *app) *cobra.Command {
	var s settling
	cmd := &cobra.Command{
		Use:   "redrive",
		Short: "Apply the events that a sink put aside, each key's in order, and end the quarantine",
		Long: `Apply the events that a sink put aside, each key's in order and with its
original versions, and end the quarantine of the key. Mend first what was wrong:
push the schema, repair the catalogue or the Go projection, start the sink anew.

The filters choose keys: those with an event that is like this. All that was put
aside of such a key is applied, however it was chosen, for a state that skipped
an event is wrong. An event that still cannot be applied stays, with what is
behind it, and the answer says why; exit status 1. What comes for the key
meanwhile is applied behind. See "millrace dlq discard" for events that never
will be right.

The process of the sink that owns the partition does it, between two batches. It
need not run: the request waits in Kafka, on the topic __millrace.SINK.control,
and survives a crash at any point. Each event has its effect once.`,
		Example: `  millrace dlq redrive --topic shop.orders --key o-17
  millrace dlq redrive --sink warehouse --type shop.OrderPlaced --since 2h
  millrace dlq redrive --all --wait 10m -o json`,
		Args: takes(),
	}
	s.flags(cmd, a)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, keys, err := s.choose(cmd, a)
		if err != nil {
			return err
		}
		keys = slices.DeleteFunc(keys, func(k dlq.Key) bool { return k.Key == "" && s.filter.Key == "" }) // they can only be discarded
		return s.settle(cmd, d, keys, consumers.DropNothing)
	}
	return cmd
}

func newDLQDiscard(a *app) *cobra.Command {
	var s settling
	var yes, poison, whole bool
	cmd := &cobra.Command{
		Use:   "discard",
		Short: "Drop the event that a key is stuck at, apply the rest, and end the quarantine",
		Long: `Drop the event that a key is stuck at, for good, apply in order what waits
behind it, and end the quarantine. That is the usual wish: one event is wrong
and never will be right, the others are. Nothing is dropped that the command
does not show first: it asks, unless --yes.

  (neither flag)   drops the one event that the key is stuck at. If another one
                   behind it cannot be applied either, the key is stuck there
                   then, and the answer says so (exit status 1).
  --every-poison   drops each of the key's events that cannot be applied, and
                   applies the others.
  --whole-key      drops all of the key's events; its state stays as it was
                   before them. Events that came after the command looked are
                   not dropped, but applied.

A state that skipped an event may be wrong. The events stay on the dead-letter
topic, where "millrace dlq list --all" shows them; a rebuild of the sink sees
them again. An event without a usable key was put aside alone, and is dropped
alone. It is carried out as a redrive is: see "millrace dlq redrive --help".`,
		Example: `  millrace dlq discard --topic shop.orders --key o-17
  millrace dlq discard --type shop.OrderPlaced --every-poison --yes
  millrace dlq discard --topic shop.orders --key o-17 --whole-key`,
		Args: takes(),
	}
	s.flags(cmd, a)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&poison, "every-poison", false, "drop every event that cannot be applied")
	cmd.Flags().BoolVar(&whole, "whole-key", false, "drop all that was put aside of the key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		drop := consumers.DropFirst
		switch {
		case poison && whole:
			return usagef("--every-poison and --whole-key exclude each other")
		case poison:
			drop = consumers.DropPoison
		case whole:
			drop = consumers.DropAll
		}
		d, keys, err := s.choose(cmd, a)
		if err != nil {
			return err
		}
		if err := confirmDrop(cmd, d.name, keys, drop, yes || len(keys) == 0); err != nil {
			return err
		}
		return s.settle(cmd, d, keys, drop)
	}
	return cmd
}

// confirmDrop asks a person. A script must say --yes: nobody is there to answer.
func confirmDrop(cmd *cobra.Command, sink string, keys []dlq.Key, drop consumers.Drop, yes bool) error {
	if yes {
		return nil
	}
	what := map[consumers.Drop]string{
		consumers.DropFirst:  "the event that each of %s is stuck at",
		consumers.DropPoison: "every event of %s that cannot be applied",
		consumers.DropAll:    "every event that was put aside of %s",
	}[drop]
	what = fmt.Sprintf(what, count(int64(len(keys)), "key", "keys"))
	if in, ok := cmd.InOrStdin().(*os.File); ok && !term.IsTerminal(int(in.Fd())) {
		return usagef("sink %s would drop %s for good: say --yes", sink, what)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s\nDrop %s for good? [y/N] ", someKeys(keys), what)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errors.New("nothing was dropped")
	}
	return nil
}

// someKeys lists a few of the keys in question.
func someKeys(keys []dlq.Key) string {
	const most = 5
	var parts []string
	for _, k := range keys[:min(len(keys), most)] {
		parts = append(parts, "  "+clean(fmt.Sprintf("%s  %s  %s  %s  %s", placeText(k.TopicPartition, k.From), keyText(k.Key, k.Key != ""),
			cmp.Or(k.Type, "-"), count(k.Letters, "event", "events"), cut(k.Reason, 120))))
	}
	if len(keys) > most {
		parts = append(parts, "  … and "+number(int64(len(keys)-most))+" more")
	}
	return strings.Join(parts, "\n")
}

func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// settledKey is what became of a key, as -o json prints it.
type settledKey struct {
	Request   string `json:"request"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Key       string `json:"key"`
	// Outcome is done, stuck, nothing, failed, or asked if the answer was not waited for.
	Outcome string `json:"outcome"`
	Applied int64  `json:"applied"`
	Dropped int64  `json:"dropped"`
	Detail  string `json:"detail,omitempty"`
}

// settle asks for the keys, waits, and prints what became of them.
func (s *settling) settle(cmd *cobra.Command, d *letterDesk, keys []dlq.Key, drop consumers.Drop) error {
	if len(keys) == 0 {
		if *s.out == "json" {
			return s.out.print(cmd.OutOrStdout(), []settledKey{}, nil, nil)
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "(sink %s has no key in quarantine that is like this)\n", d.name)
		return err
	}
	requests := make([]consumers.Request, len(keys))
	for i, k := range keys {
		requests[i] = k.Request(drop)
	}
	if err := d.Ask(cmd.Context(), requests...); err != nil {
		return err
	}
	answers := make([]*consumers.Answer, len(requests))
	if s.wait > 0 {
		limit, cancel := context.WithTimeout(cmd.Context(), s.wait)
		defer cancel()
		var err error
		if answers, err = d.Wait(limit, requests, s.progress(limit, cmd.ErrOrStderr(), d, len(requests))); err != nil && limit.Err() == nil {
			return err
		}
		if err := cmd.Context().Err(); err != nil {
			return fmt.Errorf("interrupted: the requests stay, and are carried out by the process that owns the partition: %w", err)
		}
	}
	return s.print(cmd, d, requests, answers)
}

// progress says every two seconds how far it is, and what is waited for.
func (s *settling) progress(ctx context.Context, w io.Writer, d *letterDesk, all int) func(*consumers.Answer) {
	said := time.Now()
	answered, applied := 0, map[string]int64{}
	return func(a *consumers.Answer) {
		if a != nil {
			applied[a.ID] = a.Applied + a.Dropped
			if a.Outcome != consumers.Underway {
				answered++
			}
		}
		if time.Since(said) < quietFor {
			return
		}
		said = time.Now()
		events := int64(0)
		for _, n := range applied {
			events += n
		}
		if events == 0 && answered == 0 && d.stopped(ctx) {
			fmt.Fprintf(w, "no process of sink %s runs: the requests wait for one (millrace sink %s)\n", d.name, d.name)
			return
		}
		fmt.Fprintf(w, "%s of %s answered, %s settled\n", number(int64(answered)), count(int64(all), "key", "keys"), count(events, "event", "events"))
	}
}

// stopped says that no process of the sink runs, as far as Kafka knows.
func (d *letterDesk) stopped(ctx context.Context) bool {
	adm, err := d.config.admin()
	if err != nil {
		return false
	}
	defer adm.Close()
	ctx, cancel := context.WithTimeout(ctx, quietFor)
	defer cancel()
	opts, err := d.config.Kafka.options()
	if err != nil {
		return false
	}
	of, err := servingGroup(ctx, opts, d.name)
	if err != nil {
		return false
	}
	group, err := describe(ctx, adm, of)
	return err == nil && len(group.Members) == 0
}

// print shows what became of the keys. The error is errQuiet if something stays that should not, or was not answered in time.
func (s *settling) print(cmd *cobra.Command, d *letterDesk, requests []consumers.Request, answers []*consumers.Answer) error {
	list := make([]settledKey, len(requests))
	var rows [][]string
	open, stays := 0, 0
	for i, q := range requests {
		k := settledKey{Request: q.ID, Topic: q.Topic, Partition: q.Partition, Key: q.Key, Outcome: "asked"}
		if a := answers[i]; a != nil {
			k.Outcome, k.Applied, k.Dropped, k.Detail = string(a.Outcome), a.Applied, a.Dropped, a.Detail
			if a.Outcome == consumers.Stuck || a.Outcome == consumers.Failed {
				stays++
			}
		} else {
			open++
		}
		list[i] = k
		rows = append(rows, []string{k.Outcome, q.Topic, keyText(k.Key, k.Key != ""), number(k.Applied), number(k.Dropped), cmp.Or(k.Detail, "-")})
	}
	if err := s.out.print(cmd.OutOrStdout(), list, []string{"OUTCOME", "TOPIC", "KEY", "APPLIED", "DROPPED", "DETAIL"}, rows); err != nil {
		return err
	}
	if open > 0 && s.wait > 0 {
		why := "sink " + d.name + " has not answered"
		if d.stopped(cmd.Context()) {
			why = "no process of sink " + d.name + " runs"
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "millrace: %s: %s in Kafka and %s carried out when it does\n", why,
			count(int64(open), "request waits", "requests wait"), map[bool]string{true: "is", false: "are"}[open == 1])
	}
	if stays > 0 || open > 0 && s.wait > 0 {
		return errQuiet
	}
	return nil
}
