package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/rebuild"
)

// print says how a rebuild stands, or has ended, and what to type next.
func (d *rebuilt) print(w io.Writer, rec *rebuild.Record, r *rebuild.Rebuild) error {
	if r == nil {
		_, err := fmt.Fprintf(w, "%s: %s\n", d.name, reasonOf(nil))
		return err
	}
	if _, err := fmt.Fprintln(w, clean(d.name+": "+d.standing(rec, r, time.Now()))); err != nil {
		return err
	}
	if r.Comparison != nil && !r.Comparison.Equal && r == rec.Rebuild && r.State == rebuild.Refused {
		if err := printComparison(w, r.Comparison); err != nil {
			return err
		}
	}
	for _, line := range d.next(rec, r) {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// standing is a sentence about a rebuild.
func (d *rebuilt) standing(rec *rebuild.Record, r *rebuild.Rebuild, now time.Time) string {
	took := ""
	if !r.SwappedAt.IsZero() && r.SwappedAt.After(r.Began) {
		took = fmt.Sprintf(" (%s in %s)", count(r.Progress.Events, "event", "events"), short(r.SwappedAt.Sub(r.Began)))
	}
	switch {
	case r != rec.Rebuild && r.Outcome == "done":
		return fmt.Sprintf("generation %d serves%s; generation %d is removed", rec.Serving, took, r.Old)
	case r != rec.Rebuild && r.Outcome == "rolled-back":
		return fmt.Sprintf("generation %d serves again; generation %d is removed", rec.Serving, r.New)
	case r != rec.Rebuild:
		return fmt.Sprintf("the rebuild was %s%s; generation %d serves, as before", r.Outcome, because(r.Reason), rec.Serving)
	case r.State == rebuild.Soaking && !r.RollingBack:
		return fmt.Sprintf("generation %d serves since %s%s; generation %d follows until %s%s", r.New, moments(r.SwappedAt), took, r.Old, moments(r.KeepUntil), because(r.Reason))
	case r.State == rebuild.Refused:
		return fmt.Sprintf("generation %d is built and does not serve%s", r.New, because(r.Reason))
	case r.State == rebuild.Failed:
		return fmt.Sprintf("the rebuild has failed%s; generation %d serves, as before", because(r.Reason), rec.Serving)
	}
	return progressText(r, now)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func moments(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

// next are the commands that a person may want now.
func (d *rebuilt) next(rec *rebuild.Record, r *rebuild.Rebuild) []string {
	say := func(what string, words ...string) string {
		return fmt.Sprintf("%-34s %s", what+":", d.command(words...))
	}
	switch {
	case r != rec.Rebuild:
		return nil
	case r.State == rebuild.Refused && r.Comparison != nil && r.Comparison.Equal:
		return []string{say("to try the swap again", "accept"), say("to give it up", "abort")}
	case r.State == rebuild.Refused && r.Comparison != nil && r.Comparison.Acceptable:
		return []string{say("to accept the changes and swap", "accept"), say("to give it up", "abort")}
	case r.State == rebuild.Refused:
		return []string{
			fmt.Sprintf("%-34s millrace verify %s", "to see which of the two is wrong:", d.name),
			say("to give it up", "abort"),
			fmt.Sprintf("%-34s millrace repair %s --differences", "then to mend the one that serves:", d.name),
		}
	case r.State == rebuild.Failed:
		return []string{say("to remove what was built", "abort")}
	case r.State == rebuild.Soaking:
		return []string{say("to let the one before serve again", "rollback"), say("to remove the one before now", "finish")}
	case r.Paused:
		return []string{say("to go on", "resume")}
	}
	return nil
}

// How many keys a table shows, and how many examples of a column; -o json has all that were recorded.
const (
	shownDifferences = 20
	shownExamples    = 3
)

// printComparison shows two generations side by side.
func printComparison(w io.Writer, c *compare.Comparison) error {
	var sums, changes, keys [][]string
	for _, entity := range sorted(c.Entities) {
		e := c.Entities[entity]
		states, deleted := sides(e.Old)
		newStates, newDeleted := sides(e.New)
		sums = append(sums, []string{entity, number(states), number(newStates), number(deleted), number(newDeleted), number(e.Different)})
		changes = append(changes, changeRows(entity, e)...)
		for _, d := range e.Differences {
			keys = append(keys, []string{entity, d.Key, string(d.Kind), strings.Join(d.Columns, " "), sinceText(d.Since), d.Old, d.New})
		}
	}
	if err := table(w, []string{"ENTITY", "STATES", "NEW", "DELETED", "NEW", "KEYS THAT DIFFER"}, sums); err != nil {
		return err
	}
	if len(changes) > 0 {
		fmt.Fprintln(w, "\nThe new declarations change:")
		if err := table(w, []string{"ENTITY", "COLUMN", "HOW", "STATES", "FOR EXAMPLE", "OLD", "NEW"}, changes); err != nil {
			return err
		}
	}
	if len(keys) > 0 {
		fmt.Fprintln(w, "\nKeys that differ in what should be equal:")
		if err := table(w, []string{"ENTITY", "KEY", "KIND", "COLUMNS", "SINCE", "OLD", "NEW"}, keys[:min(len(keys), shownDifferences)]); err != nil {
			return err
		}
		if n := len(keys) - shownDifferences; n > 0 {
			fmt.Fprintf(w, "… and %s more (-o json has them)\n", number(int64(n)))
		}
	}
	if len(changes)+len(keys) > 0 {
		fmt.Fprintln(w)
	}
	return nil
}

// changeRows are a row for each example of a changed column, and one for a column without any.
func changeRows(entity string, e *compare.Compared) [][]string {
	var rows [][]string
	for _, c := range e.Changed {
		head := []string{entity, cmp.Or(c.Column, "(whether it is there)"), c.How, number(c.States)}
		if len(c.Examples) == 0 {
			rows = append(rows, append(head, "-"))
		}
		for i, x := range c.Examples[:min(len(c.Examples), shownExamples)] {
			if i > 0 {
				head = []string{"", "", "", ""}
			}
			rows = append(rows, append(slices.Clone(head), x.Key, x.Old, x.New))
		}
	}
	return rows
}

func sides(all []compare.Side) (states, deleted int64) {
	for _, s := range all {
		states, deleted = states+s.States, deleted+s.Deleted
	}
	return states, deleted
}

func sinceText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateTime)
}
