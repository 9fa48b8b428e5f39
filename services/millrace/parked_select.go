package main

import (
	"cmp"
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/relay"
)

// selecting is how `parked release` and `parked discard` are told which events.
type selecting struct {
	topic, key, reason string
	all                bool
}

// flags adds the flags; reason says what --reason means.
func (s *selecting) flags(cmd *cobra.Command, reason string) {
	cmd.Flags().StringVar(&s.topic, "topic", "", "with --key: the events of that key in `TOPIC`")
	cmd.Flags().StringVar(&s.key, "key", "", "with --topic: the events of `KEY`")
	cmd.Flags().StringVar(&s.reason, "reason", "", reason)
	cmd.Flags().BoolVar(&s.all, "all", false, "every parked event")
}

// selection is what the arguments and flags say; exactly one way of saying it may be used.
func (s *selecting) selection(cmd *cobra.Command, ids []string) (relay.Selection, error) {
	var out relay.Selection
	key := cmd.Flags().Changed("key")
	ways := btoi(len(ids) > 0) + btoi(key || s.topic != "") + btoi(s.reason != "") + btoi(s.all)
	switch {
	case ways == 0:
		return out, usagef("say which: EVENT_ID..., --topic T --key K, --reason R, or --all")
	case ways > 1:
		return out, usagef("say it in one way: EVENT_ID..., --topic T --key K, --reason R, or --all")
	case key != (s.topic != ""):
		return out, usagef("--key and --topic go together")
	case key:
		out.Topic, out.Key = s.topic, &s.key
	}
	out.Reason, out.All = relay.Reason(s.reason), s.all
	var err error
	out.Events, err = eventIDs(ids)
	return out, err
}

func eventIDs(texts []string) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	for _, text := range texts {
		id, err := uuid.Parse(text)
		if err != nil {
			return nil, usagef("%q is no event id, such as 0199b7a1-6a3e-7c1c-9d3c-1f2e3d4c5b6a", text)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// find lists the parked events that a selection means: of a line, all.
func (q *question) find(ctx context.Context, s relay.Selection) ([]*relay.Parked, error) {
	opts, err := q.config.Kafka.options()
	if err != nil {
		return nil, err
	}
	list, err := relay.ListParked(ctx, opts, q.name)
	if err != nil {
		return nil, err
	}
	return s.Among(list), nil
}

// lists a few of the events in question, for a person who is to confirm.
func some(list []*relay.Parked) string {
	const most = 5
	var parts []string
	for _, p := range list[:min(len(list), most)] {
		parts = append(parts, "  "+clean(cmp.Or(p.Topic, "-")+"  "+cmp.Or(p.Key, "-")+"  "+p.Type+"  "+p.EventID.String()+"  "+string(p.Reason)))
	}
	if len(list) > most {
		parts = append(parts, "  … and "+number(int64(len(list)-most))+" more")
	}
	return strings.Join(parts, "\n")
}
