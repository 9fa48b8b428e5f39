package main

import (
	"cmp"
	"context"
	"slices"
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
	err := checkReason(s.reason)
	if err != nil {
		return out, err
	}
	out.Reason, out.All = relay.Reason(s.reason), s.all
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

// any says whether anything was said.
func (s *selecting) any() bool { return s.all || s.reason != "" || s.topic != "" || s.key != "" }

// checkReason refuses what is no reason: it would select nothing.
func checkReason(reason string) error {
	if reason == "" || slices.Contains(relay.Reasons(), relay.Reason(reason)) {
		return nil
	}
	return usagef("--reason %q is none of %s", reason, strings.Join(reasonNames(), ", "))
}

func reasonNames() []string {
	var names []string
	for _, r := range relay.Reasons() {
		names = append(names, string(r))
	}
	return names
}

// wrapped is a list in words, in lines of at most so many columns; the first begins at column at.
func wrapped(names []string, columns, at int) string {
	text := ""
	for i, name := range names {
		if i > 0 {
			name = ", " + name
		}
		if at += len(name); at > columns {
			name = ",\n" + name[2:]
			at = len(name) - 2
		}
		text += name
	}
	return text
}

// some lists a few of the events in question, for a person who is to confirm.
func some(ctx context.Context, x *relay.ParkedIndex) (string, error) {
	const most = 5
	var parts []string
	err := x.Each(ctx, most, func(p *relay.Parked) error {
		parts = append(parts, "  "+clean(cmp.Or(p.Topic, "-")+"  "+cmp.Or(p.Key, "-")+"  "+p.Type+"  "+p.EventID.String()+"  "+string(p.Reason)))
		return nil
	})
	if x.Len() > most {
		parts = append(parts, "  … and "+number(int64(x.Len()-most))+" more")
	}
	return strings.Join(parts, "\n"), err
}
