package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/consumers/rebuild"
)

// turning is what commands have in common that ask for something and wait until it is so.
type turning struct {
	timeout time.Duration
	detach  bool
	out     *format
}

func (t *turning) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&t.detach, "detach", false, "return when the sink has agreed, and do not wait until it is done")
	t.answerFlags(cmd)
}

// answerFlags are those of a command that is done when it is answered.
func (t *turning) answerFlags(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&t.timeout, "timeout", time.Minute, "how long to wait for the sink's answer; the request stays")
	t.out = output(cmd)
}

func (t *turning) check() error {
	if t.timeout <= 0 {
		return usagef("--timeout %v is not a time to wait", t.timeout)
	}
	return nil
}

// newTurn makes a command that asks for an action; wait says that there is something to wait for afterwards.
func newTurn(a *app, action rebuild.Action, wait bool, cmd *cobra.Command) *cobra.Command {
	var t turning
	cmd.Args, cmd.ValidArgsFunction = takes("SINK"), completeSinks(a)
	if wait {
		t.flags(cmd)
	} else {
		t.detach = true
		t.answerFlags(cmd)
	}
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if err := t.check(); err != nil {
			return err
		}
		d, err := openRebuilt(a, got[0])
		if err != nil {
			return err
		}
		return d.turn(cmd, &t, rebuild.Request{Action: action})
	}
	return cmd
}

func newRebuildAccept(a *app) *cobra.Command {
	return newTurn(a, rebuild.Accept, true, &cobra.Command{
		Use:   "accept SINK",
		Short: "Accept what the new declarations change, and swap",
		Long: `Accept what the new declarations change: goes on from a rebuild that was refused
because of that. What it accepts is what "millrace rebuild status SINK" shows.
A swap that was given up, for a store refused it for long, is tried again.
Keys that differ in what should be equal cannot be accepted: abort, find out why
(millrace verify SINK), and begin again.`,
		Example: "  millrace rebuild accept warehouse",
	})
}

func newRebuildPause(a *app) *cobra.Command {
	return newTurn(a, rebuild.Pause, false, &cobra.Command{
		Use:     "pause SINK",
		Short:   "Let a rebuild wait until it is resumed, over restarts",
		Example: "  millrace rebuild pause warehouse",
	})
}

func newRebuildResume(a *app) *cobra.Command {
	return newTurn(a, rebuild.Resume, false, &cobra.Command{
		Use:     "resume SINK",
		Short:   "Go on with a rebuild that was paused",
		Example: "  millrace rebuild resume warehouse\n  millrace rebuild status warehouse --follow",
	})
}

func newRebuildAbort(a *app) *cobra.Command {
	return newTurn(a, rebuild.Abort, true, &cobra.Command{
		Use:   "abort SINK",
		Short: "Give a rebuild up and remove what it built; the sink goes on as it was",
		Long: `Give a rebuild up and remove what it built. The generation that serves goes on,
and never noticed. After the swap it is too late for that: see "millrace rebuild
rollback" instead.`,
		Example: "  millrace rebuild abort warehouse",
	})
}

func newRebuildRollback(a *app) *cobra.Command {
	return newTurn(a, rebuild.Rollback, true, &cobra.Command{
		Use:   "rollback SINK",
		Short: "Let the generation before serve again, in one step, as long as it is kept",
		Long: `Let the generation before serve again, in one step for every reader. It has
followed all the time, so nobody sees a step back in time: only its declarations
are the old ones, and it keeps them until the next rebuild, whatever the
configuration says. The new generation is removed.`,
		Example: "  millrace rebuild rollback warehouse",
	})
}

func newRebuildFinish(a *app) *cobra.Command {
	return newTurn(a, rebuild.Finish, true, &cobra.Command{
		Use:   "finish SINK",
		Short: "Remove the generation before now, and not when its time is over",
		Long: `Remove the generation before now, and not when its time (--keep-old) is over.
It gives its room back, and there is no rollback any more.`,
		Example: "  millrace rebuild finish warehouse",
	})
}

// turnAnswer is what these commands print as JSON.
type turnAnswer struct {
	Sink   string         `json:"sink"`
	Action rebuild.Action `json:"action"`
	OK     bool           `json:"ok"`
	Reason string         `json:"reason,omitempty"`
	// Record is that of the end, or with --detach of the beginning.
	Record *rebuild.Record `json:"record,omitempty"`
}

// turn asks the sink's processes for something and, unless it shall not wait, shows how far it is.
func (d *rebuilt) turn(cmd *cobra.Command, t *turning, q rebuild.Request) error {
	before, err := d.Read(cmd.Context())
	if err != nil {
		return err
	}
	if err := d.led(cmd.Context()); err != nil {
		return err
	}
	answer, err := d.asked(cmd, t, q)
	if err != nil {
		return err
	}
	if !answer.OK {
		return d.refusal(cmd, t, q, answer)
	}
	rec, err := d.Read(cmd.Context())
	if err != nil {
		return err
	}
	r := rec.Rebuild
	if r == nil {
		r = rec.Last
	}
	if q.Action != rebuild.Start && before.Rebuild != nil {
		r = before.Rebuild // it may be over by now
	}
	if t.detach || r == nil {
		return d.agreed(cmd, t, q, &rec)
	}
	return d.follow(cmd, t.out, q.Action, r.ID)
}

// asked puts the request and waits for the answer.
func (d *rebuilt) asked(cmd *cobra.Command, t *turning, q rebuild.Request) (rebuild.Answer, error) {
	told := newSteps(cmd.ErrOrStderr())
	defer told.stop()
	told.at(fmt.Sprintf("waiting for the leading process of sink %s", d.name), 0, 0)
	ctx, cancel := context.WithTimeout(cmd.Context(), t.timeout)
	defer cancel()
	named := request(q.Action)
	named.Options = q.Options
	answer, err := d.Ask(ctx, named)
	switch {
	case cmd.Context().Err() != nil:
		return answer, left("the request stays, and is carried out", d)
	case errors.Is(err, rebuild.ErrNoAnswer):
		return answer, fmt.Errorf("sink %s has not answered within %v: the request stays, and is carried out when it can (%s)", d.name, t.timeout, d.command("status"))
	}
	return answer, err
}

// refusal tells why the sink does not do it.
func (d *rebuilt) refusal(cmd *cobra.Command, t *turning, q rebuild.Request, answer rebuild.Answer) error {
	if *t.out == "json" {
		if err := t.out.print(cmd.OutOrStdout(), turnAnswer{d.name, q.Action, false, answer.Reason, nil}, nil, nil); err != nil {
			return err
		}
		return errQuiet
	}
	return fmt.Errorf("sink %s does not %s: %s", d.name, doing[q.Action], answer.Reason)
}

var doing = map[rebuild.Action]string{
	rebuild.Start: "begin a rebuild", rebuild.Pause: "pause", rebuild.Resume: "resume", rebuild.Abort: "abort", rebuild.Rollback: "roll back",
	rebuild.Accept: "accept", rebuild.Finish: "finish",
}

// agreed is the end of a command that does not wait.
func (d *rebuilt) agreed(cmd *cobra.Command, t *turning, q rebuild.Request, rec *rebuild.Record) error {
	if *t.out == "json" {
		return t.out.print(cmd.OutOrStdout(), turnAnswer{d.name, q.Action, true, "", rec}, nil, nil)
	}
	text := map[rebuild.Action]string{
		rebuild.Start: "the rebuild is under way", rebuild.Pause: "the rebuild waits until " + d.command("resume"), rebuild.Resume: "the rebuild goes on",
		rebuild.Abort: "the rebuild is given up, and what it built is being removed", rebuild.Rollback: "the generation before is about to serve again",
		rebuild.Accept: "what changes is accepted, the swap is under way", rebuild.Finish: "the generation before is being removed",
	}[q.Action]
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s (%s)\n", d.name, text, d.command("status"))
	return err
}

// leftError says what goes on although nobody looks any more.
type leftError struct{ text string }

func (e *leftError) Error() string { return e.text }

func left(what string, d *rebuilt) error {
	return &leftError{fmt.Sprintf("sink %s: %s; look again with: %s", d.name, what, d.command("status", "--follow"))}
}

// follow shows how far a rebuild is until what was asked for is so, or cannot become so.
func (d *rebuilt) follow(cmd *cobra.Command, out *format, action rebuild.Action, id string) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	records, failed := make(chan rebuild.Record), make(chan error, 1)
	go func() {
		failed <- d.Follow(ctx, func(rec rebuild.Record) error {
			select {
			case records <- rec:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	defer func() { cancel(); <-failed }()
	show := newRebuildView(cmd.ErrOrStderr(), d.name)
	defer show.end()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-cmd.Context().Done():
			show.end()
			return left("what was begun goes on", d)
		case err := <-failed:
			failed <- err
			if cmd.Context().Err() != nil {
				continue
			}
			return err
		case <-tick.C:
			show.again(time.Now())
		case rec := <-records:
			r := find(&rec, id)
			if over, done := reached(&rec, r, action); over {
				show.end()
				return d.ended(cmd.OutOrStdout(), out, action, &rec, r, done)
			}
			show.at(r, time.Now())
		}
	}
}

// find is the rebuild of an id in a record; nil if nothing is known of it any more.
func find(rec *rebuild.Record, id string) *rebuild.Rebuild {
	for _, r := range []*rebuild.Rebuild{rec.Rebuild, rec.Last} {
		if r != nil && r.ID == id {
			return r
		}
	}
	return nil
}

// reached says whether an action is over for whoever asked for it, and whether what was asked for is so.
func reached(rec *rebuild.Record, r *rebuild.Rebuild, action rebuild.Action) (over, done bool) {
	if r == nil {
		return true, false
	}
	if r != rec.Rebuild { // it is the last one
		return true, r.Outcome == map[rebuild.Action]string{rebuild.Rollback: "rolled-back", rebuild.Abort: "aborted"}[action] || forward(action) && r.Outcome == "done"
	}
	switch r.State {
	case rebuild.Failed:
		return action != rebuild.Abort, false
	case rebuild.Refused:
		return forward(action), false
	case rebuild.Soaking:
		if action == rebuild.Rollback {
			return !r.RollingBack, false // it was given up
		}
		over = forward(action) && action != rebuild.Finish
		return over, over
	}
	return false, false
}

// forward says that an action wants the new generation to serve.
func forward(a rebuild.Action) bool { return a != rebuild.Rollback && a != rebuild.Abort }

// ended prints how it ended.
func (d *rebuilt) ended(w io.Writer, out *format, action rebuild.Action, rec *rebuild.Record, r *rebuild.Rebuild, done bool) error {
	if *out == "json" {
		if err := out.print(w, turnAnswer{d.name, action, done, reasonOf(r), rec}, nil, nil); err != nil {
			return err
		}
	} else if err := d.print(w, rec, r); err != nil {
		return err
	}
	if !done {
		return errQuiet
	}
	return nil
}

func reasonOf(r *rebuild.Rebuild) string {
	if r == nil {
		return "nothing is known of it any more: another one has taken its place"
	}
	return r.Reason
}
