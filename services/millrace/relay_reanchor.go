package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/millrace/millrace/services/relay"
)

func newRelayReanchor(a *app) *cobra.Command {
	var name, since string
	var dry, yes, force bool
	cmd := &cobra.Command{
		Use:   "re-anchor",
		Short: "Go on after the database was restored, or failed over and lost commits",
		Long: `Go on after the database was restored from a dump or an older volume, or failed
over to a standby that lacked the last commits. The relay has stopped by then
and said so.

What the topics hold is compared with the outbox table by event id. Events that
the table holds and the topics do not are published when a relay starts again;
those that the topics hold are not published twice. Events in the topics whose
commit the database does not hold are listed: whoever reads the topics has seen
them. Rows that retention took cannot be told from lost ones, so the list begins
with what was published after the first event that the table still holds, or
at the time given with --since.

Writers may go on meanwhile; relays of this outbox may not. A command that was
interrupted is run again and goes on. The role needs UPDATE on the table event;
the owner of the tables has it.`,
		Example: `  millrace relay re-anchor --dry-run
  millrace relay re-anchor --dry-run -o json > lost.json
  millrace relay re-anchor --outbox shop --yes`,
		Args: takes(),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&name, "outbox", "", "`NAME` of the outbox, where there is more than one")
	cmd.Flags().StringVar(&since, "since", "", "list as lost what occurred from this `TIME` on and is not in the table, such as 2026-01-31T10:00:00Z")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "report, and change nothing")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before something is changed")
	cmd.Flags().BoolVar(&force, "force", false, "go on although the database looks like the one that was published from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opts := relay.ReAnchorOptions{DryRun: dry, Force: force}
		if since != "" {
			var err error
			if opts.Since, err = time.Parse(time.RFC3339, since); err != nil {
				return usagef("--since %q is no time such as 2026-01-31T10:00:00Z", since)
			}
		}
		asks := !dry && !yes
		if asks && (!term.IsTerminal(int(os.Stdin.Fd())) || *out == "json") {
			return usagef("say --yes to change something without being asked, or --dry-run to look")
		}
		c, err := a.load()
		if err != nil {
			return err
		}
		name, o, err := c.outbox(name)
		if err != nil {
			return err
		}
		cfg := o.Config
		if cfg.Kafka, err = c.Kafka.options(); err != nil {
			return err
		}
		report := newAnchorReport(cmd.OutOrStdout(), *out)
		opts.Lost = report.lost
		p := newSteps(cmd.ErrOrStderr())
		defer p.stop()
		opts.Progress = func(at relay.Progressed) { p.at(at.Step, at.Done, at.Total) }
		if asks {
			opts.Confirm = func(found relay.Anchorage) (bool, error) {
				p.pause()
				return report.ask(found, cmd.InOrStdin())
			}
		}
		cfg.Outbox = name
		found, err := relay.ReAnchor(cmd.Context(), cfg, opts)
		p.stop()
		return report.end(found, err)
	}
	return cmd
}

// anchorReport prints what was found: the lost events as they come, for they may be many, then the rest.
type anchorReport struct {
	w      *bufio.Writer
	format format
	listed int
	said   bool // the findings were printed already
}

func newAnchorReport(w io.Writer, f format) *anchorReport {
	return &anchorReport{w: bufio.NewWriter(w), format: f}
}

const lostLine = "%-30s  %9s  %10s  %-36s  %10s  %-20s  %s\n"

func (r *anchorReport) lost(e relay.LostEvent) error {
	r.listed++
	if r.format == "json" {
		return r.lostJSON(e)
	}
	if r.listed == 1 {
		fmt.Fprintf(r.w, "In Kafka, but not committed in this database:\n\n"+lostLine, "TOPIC", "PARTITION", "OFFSET", "EVENT", "SEQ", "OCCURRED", "KEY")
	}
	seq := fmt.Sprint(e.Seq)
	if e.Parked {
		seq = "parked"
	}
	_, err := fmt.Fprintf(r.w, lostLine, clean(e.Topic), fmt.Sprint(e.Partition), fmt.Sprint(e.Offset), e.EventID, seq,
		e.OccurredAt.UTC().Format(time.RFC3339), cell(e.Key, maxLast))
	return err
}

func (r *anchorReport) lostJSON(e relay.LostEvent) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	before := ",\n    "
	if r.listed == 1 {
		before = "{\n  \"lost\": [\n    "
	}
	_, err = fmt.Fprintf(r.w, "%s%s", before, raw)
	return err
}

// ask shows what was found and waits for a yes.
func (r *anchorReport) ask(found relay.Anchorage, in io.Reader) (bool, error) {
	r.findings(found)
	fmt.Fprint(r.w, "Restamp the rows and write a new cursor? Type yes: ")
	if err := r.w.Flush(); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return strings.TrimSpace(line) == "yes", nil
}

// end prints what is left to say.
func (r *anchorReport) end(found relay.Anchorage, err error) error {
	nothing := errors.Is(err, relay.ErrNothingToAnchor)
	if err != nil && !nothing {
		return errors.Join(err, r.w.Flush())
	}
	if r.format == "json" {
		if r.listed == 0 {
			fmt.Fprint(r.w, "{\n  \"lost\": [")
		} else {
			fmt.Fprint(r.w, "\n  ")
		}
		raw, err := json.MarshalIndent(found, "  ", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(r.w, "],\n  \"report\": %s\n}\n", raw)
		return r.w.Flush()
	}
	if nothing {
		fmt.Fprintf(r.w, "%s: %v (--force does it all the same)\n", clean(found.Outbox), relay.ErrNothingToAnchor)
		return r.w.Flush()
	}
	if !r.said {
		r.findings(found)
	}
	if found.DryRun {
		fmt.Fprintln(r.w, "Dry run: nothing was changed.")
	} else {
		fmt.Fprintf(r.w, "Re-anchored: %s restamped, the cursor stands at t %d, seq %d. Start a relay.\n", count(found.Restamped, "row", "rows"), found.T, found.Seq)
	}
	return r.w.Flush()
}

func (r *anchorReport) findings(f relay.Anchorage) {
	r.said = true
	say := func(what, format string, args ...any) {
		fmt.Fprintf(r.w, "%-14s  %s\n", what, fmt.Sprintf(format, args...))
	}
	if r.listed > 0 {
		fmt.Fprintln(r.w)
	}
	say("outbox", "%s", clean(f.Outbox))
	if f.Reason != "" {
		say("reason", "%s", clean(f.Reason))
	}
	if f.Resumed {
		say("", "an earlier attempt was interrupted")
	}
	from := "the beginning"
	if !f.ReadFrom.IsZero() {
		from = f.ReadFrom.UTC().Format(time.RFC3339)
	}
	say("topics", "%s from %s on; %s not this outbox's", count(f.Records, "record", "records"), from, number(f.Foreign))
	say("table", "%s: %s in Kafka, %s to be published", count(f.Rows, "row", "rows"), number(f.Published), number(f.Unpublished))
	if f.Assumed > 0 {
		say("", "%s taken as published: their topics no longer reach back to them, and the old cursor has them", number(f.Assumed))
	}
	if f.SequenceBehind > 0 {
		say("id sequence", "%s behind", count(f.SequenceBehind, "id", "ids"))
	}
	if f.Comparable {
		say("lost", "%s", count(f.LostEvents, "event", "events"))
	} else {
		say("lost", "not known: the table holds no published event to begin from; --since lists from a time on")
	}
}
