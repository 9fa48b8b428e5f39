package main

import (
	"fmt"
	"io"
)

func (p *rebuildPlan) print(w io.Writer) error {
	for _, part := range []func(io.Writer) error{p.printChanges, p.printReach, p.printCost} {
		if err := part(w); err != nil {
			return err
		}
	}
	switch {
	case p.Running != nil:
		fmt.Fprintf(w, "\nA rebuild goes on: millrace rebuild status %s\n", p.Sink)
	case p.Reaches == "no":
		fmt.Fprintf(w, "\nto rebuild it from what is left: millrace rebuild %s --from TIME\n", p.Sink)
	case p.Reaches != "log":
		fmt.Fprintf(w, "\nto do it: millrace rebuild %s --from bronze\n", p.Sink)
	default:
		fmt.Fprintf(w, "\nto do it: millrace rebuild %s\n", p.Sink)
	}
	return nil
}

func (p *rebuildPlan) printChanges(w io.Writer) error {
	switch {
	case !p.Recorded:
		_, err := fmt.Fprintf(w, "%s: generation %d serves; by which declarations is not recorded, for the sink has not run yet\n\n", p.Sink, p.Serving)
		return err
	case len(p.Entities) == 0:
		_, err := fmt.Fprintf(w, "%s: generation %d serves, by the declarations that are configured: a rebuild makes the same again\n\n", p.Sink, p.Serving)
		return err
	}
	fmt.Fprintf(w, "%s: generation %d serves, by other declarations than are configured:\n\n", p.Sink, p.Serving)
	var rows [][]string
	for _, entity := range sorted(p.Entities) {
		e := p.Entities[entity]
		switch {
		case e.Unreadable != "":
			rows = append(rows, []string{entity, "-", "the old declaration cannot be read any more: " + e.Unreadable})
		case e.How != "changed":
			rows = append(rows, []string{entity, "(all)", e.How})
		case len(e.Changed) == 0:
			rows = append(rows, []string{entity, "-", "the order of columns, or events without an effect: no value changes"})
		}
		for _, c := range e.Changed {
			rows = append(rows, []string{entity, c.Column, howText[c.How]})
		}
	}
	if err := table(w, []string{"ENTITY", "COLUMN", "HOW"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

var howText = map[string]string{
	"added": "added", "gone": "gone", "retyped": "retyped: another type", "redefined": "redefined: set by other rules",
	"existence": "existence: other events make its states begin or end",
}

func (p *rebuildPlan) printReach(w io.Writer) error {
	text := map[string]string{
		"log":              "the log reaches back to the first event",
		"bronze":           "the log has lost its beginning; what is missing is in the sink's bronze: --from bronze",
		"bronze not asked": "the log has lost its beginning; whether bronze has it could not be asked, for the sink's process does not answer: --from bronze looks",
		"no":               "the log has lost its beginning, and nothing has it: states that began there cannot be built again",
	}[p.Reaches]
	if _, err := fmt.Fprintln(w, text); err != nil || p.Reaches == "log" {
		return err
	}
	var rows [][]string
	for _, l := range p.Log {
		if l.First > 0 {
			bronze := "-"
			if l.Bronze >= 0 {
				bronze = number(l.Bronze)
			}
			rows = append(rows, []string{l.Topic, fmt.Sprint(l.Partition), number(l.First), bronze})
		}
	}
	return table(w, []string{"TOPIC", "PARTITION", "LOG BEGINS AT", "BRONZE BEGINS AT"}, rows)
}

func (p *rebuildPlan) printCost(w io.Writer) error {
	size, disk, long := "size not told by the brokers", "not told ("+p.DiskWhy+")", "unknown: no build of this sink was measured yet"
	if p.Bytes >= 0 {
		size = byteText(p.Bytes)
	}
	if p.Disk >= 0 {
		disk = "about " + byteText(p.Disk) + " more while both stand beside each other (what the sink holds now)"
	}
	if p.Rate > 0 {
		long = fmt.Sprintf("about %s, at %s/s and %s for the comparison, as the last build", short(p.Time), number(int64(p.Rate)), short(p.Comparing))
	}
	_, err := fmt.Fprintf(w, "\nto read: about %s (%s)\ndisk:    %s\ntime:    %s\n", count(p.Events, "event", "events"), size, clean(disk), long)
	return err
}
