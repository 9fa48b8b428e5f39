package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/services/relay"
)

func newRelayPause(a *app) *cobra.Command {
	var ask asking
	var reason string
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Publish nothing more of an outbox, over restarts and takeovers, until it is resumed",
		Long: `Publish nothing more of an outbox, over restarts and takeovers, until "millrace
relay resume". The pause is a row in the outbox's database, so it holds from the
moment the command has written it; the command returns when the leading relay
has heeded it and nothing is on its way any more. Writers go on as before, and
so does the relay's lock: no other relay takes over.

A paused relay is ready (/readyz), for this is wanted; it says that it is
paused, and so do the metric millrace_relay_paused and "millrace relay status".
Parked events can be discarded meanwhile, but not released.`,
		Example: "  millrace relay pause --reason 'the topic is being moved'\n  millrace relay pause --outbox shop -o json",
		Args:    takes(),
	}
	ask.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`, for those who find it paused")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := ask.open(cmd, a)
		if err != nil {
			return err
		}
		defer q.close()
		return q.turn(cmd, "pause", func(ctx context.Context) (int64, error) { return q.asker.Pause(ctx, reason) })
	}
	return cmd
}

func newRelayResume(a *app) *cobra.Command {
	var ask asking
	cmd := &cobra.Command{
		Use:     "resume",
		Short:   "Publish again what was paused",
		Example: "  millrace relay resume\n  millrace relay resume --outbox shop",
		Args:    takes(),
	}
	ask.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := ask.open(cmd, a)
		if err != nil {
			return err
		}
		defer q.close()
		return q.turn(cmd, "resume", q.asker.Resume)
	}
	return cmd
}

// turn pauses or resumes. Where no relay leads there is nobody to wait for: what was written holds for whoever does.
func (q *question) turn(cmd *cobra.Command, doing string, put func(context.Context) (int64, error)) error {
	leader, err := q.asker.Leader(cmd.Context())
	if err != nil {
		return q.explain(err)
	}
	id, err := put(cmd.Context())
	var answer *relay.Answer
	switch {
	case err != nil:
		return q.explain(err)
	case leader != nil:
		if answer, err = q.wait(cmd.Context(), doing, id, nil); err != nil {
			return err
		}
	default:
		answer = &relay.Answer{}
		if answer.Pause, err = q.asker.Paused(cmd.Context()); err != nil {
			return q.explain(err)
		}
	}
	return q.printPause(cmd.OutOrStdout(), answer, leader != nil)
}

// pauseAnswer is what pause, resume and drain print as JSON.
type pauseAnswer struct {
	Outbox string `json:"outbox"`
	// Pause is the one in force; nil for none.
	Pause *store.Pause `json:"pause"`
	// Led says that a relay leads the outbox and has heeded this.
	Led bool `json:"led"`
	// Seq is the millrace-seq up to which it was published then; 0 where no relay leads.
	Seq int64 `json:"seq,omitempty"`
}

func (q *question) printPause(w io.Writer, a *relay.Answer, led bool) error {
	if *q.out == "json" {
		return q.out.print(w, pauseAnswer{q.name, a.Pause, led, a.Seq}, nil, nil)
	}
	text := "is not paused any more"
	if a.Pause != nil {
		text = pauseText(a.Pause.By, a.Pause.Since, a.Pause.Reason)
	}
	if !led {
		text += "; no relay leads it now, the next one will heed this"
	}
	_, err := fmt.Fprintf(w, "outbox %s %s\n", q.name, clean(text))
	return err
}

func pauseText(by string, since time.Time, reason string) string {
	text := "is paused by " + by + " since " + since.UTC().Format(time.DateTime) + " UTC"
	if reason != "" {
		text += " (" + reason + ")"
	}
	return text
}
