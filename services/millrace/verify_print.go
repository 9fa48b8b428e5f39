package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/verify"
)

// verifyBar shows how far a comparison is.
type verifyBar struct {
	out   io.Writer
	sink  string
	began time.Time
	shown time.Time
}

func newVerifyBar(out io.Writer, sink string) *verifyBar {
	if !isTerminal(out) {
		out = nil
	}
	return &verifyBar{out: out, sink: sink, began: time.Now()}
}

func (b *verifyBar) at(p verify.Progress) {
	if b.out == nil || time.Since(b.began) < progressAfter || time.Since(b.shown) < progressEvery {
		return
	}
	b.shown = time.Now()
	rate := float64(p.Done+p.States) / time.Since(b.began).Seconds()
	left := ""
	if p.Done > 0 && p.Total > p.Done {
		left = fmt.Sprintf("%d%%, ", 100*p.Done/p.Total)
	}
	fmt.Fprintf(b.out, "\rverifying %s: %s%s events, %s states, %s/s, %s \x1b[K", b.sink, left, number(p.Done), number(p.States), number(int64(rate)), clean(p.Phase))
}

func (b *verifyBar) end() {
	if b.out != nil && !b.shown.IsZero() {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}

// print shows a line an entity, and the differences below.
func (v *verifiedAll) print(w io.Writer, out *format) error {
	if *out == "json" {
		return out.print(w, v, nil, nil)
	}
	if err := v.printOutboxes(w); err != nil {
		return err
	}
	if len(v.Outboxes) > 0 && len(v.Sinks) > 0 {
		fmt.Fprintln(w)
	}
	var rows [][]string
	for _, r := range v.Sinks {
		for _, entity := range sorted(r.Entities) {
			rows = append(rows, entityRow(r, entity, r.Entities[entity]))
		}
		if len(r.Bronze) > 0 {
			rows = append(rows, bronzeRow(r))
		}
	}
	if len(rows) > 0 {
		if err := table(w, []string{"SINK", "WHAT", "IN THE SINK", "BY THE TOPIC", "DIFFERENT", "CHECKED"}, rows); err != nil {
			return err
		}
	}
	var differences [][]string
	for _, r := range v.Sinks {
		differences = append(differences, differenceRows(r, time.Now())...)
	}
	if len(differences) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return table(w, []string{"SINK", "WHAT", "KEY", "KIND", "SINCE", "IN THE SINK", "BY THE TOPIC"}, differences)
}

func entityRow(r *verify.Result, entity string, c *compare.Compared) []string {
	checked := "every key"
	if r.Sample > 1 {
		checked = fmt.Sprintf("1/%d of the keys", r.Sample)
	}
	if c.Moved > 0 {
		checked += fmt.Sprintf(", %s one by one", number(c.Moved))
	}
	return []string{r.Sink, entity, stateCount(c.Old), stateCount(c.New), number(c.Different), checked}
}

func stateCount(sides []compare.Side) string {
	n := int64(0)
	for _, s := range sides {
		n += s.States
	}
	return number(n)
}

func bronzeRow(r *verify.Result) []string {
	var have, want, different int64
	for _, b := range r.Bronze {
		have, want, different = have+b.Events, want+b.Expected, different+b.Missing+b.Doubled+b.Unexpected
	}
	return []string{r.Sink, "(events)", number(have), number(want), number(different), "offsets"}
}

func differenceRows(r *verify.Result, now time.Time) (rows [][]string) {
	for _, entity := range sorted(r.Entities) {
		for _, d := range r.Entities[entity].Differences {
			rows = append(rows, []string{r.Sink, entity, d.Key, string(d.Kind), since(d.Since, now), d.Old, d.New})
		}
		if more := r.Entities[entity].Different - int64(len(r.Entities[entity].Differences)); more > 0 {
			rows = append(rows, []string{r.Sink, entity, "… and " + number(more) + " more"})
		}
	}
	for _, b := range r.Bronze {
		for _, e := range b.Examples {
			rows = append(rows, []string{r.Sink, "(events)", b.Topic + "/" + strconv.Itoa(int(b.Partition)) + "/" + strconv.FormatInt(e.Offset, 10), e.Kind})
		}
	}
	return rows
}

func since(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return ago(t, now) + " ago"
}

// verdict says in a line what came of it, and returns the error that makes the exit status.
func (v *verifiedAll) verdict(w io.Writer, out *format) error {
	different, boxes, where := int64(0), int64(0), ""
	for _, r := range v.Outboxes {
		boxes += r.Differences
		if *out == "json" {
			continue
		}
		for _, note := range outboxNotes(r) {
			fmt.Fprintln(w, clean("outbox "+r.Outbox+": "+note))
		}
	}
	for _, r := range v.Sinks {
		if r.Differences > 0 {
			different += r.Differences
			if where == "" {
				where = r.Sink
			} else {
				where = "SINK" // each of them
			}
		}
		for _, note := range r.Notes {
			if *out != "json" {
				fmt.Fprintln(w, clean("sink "+r.Sink+": "+note))
			}
		}
	}
	for _, name := range sorted(v.Failed) {
		fmt.Fprintln(w, clean(name+": could not be compared: "+v.Failed[name]))
	}
	if boxes > 0 {
		fmt.Fprintf(w, "%s between outbox and topics: millrace trace EVENT_ID shows one through every stage\n", count(boxes, "difference", "differences"))
	}
	switch {
	case different > 0:
		fmt.Fprintf(w, "%s: millrace repair %s --differences folds such keys anew\n", count(different, "difference", "differences"), where)
		return errQuiet
	case len(v.Failed) > 0, boxes > 0:
		return errQuiet
	}
	return nil
}
