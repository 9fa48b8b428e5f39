package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/millrace/millrace/services/relay"
)

// print shows what became of parked events. The error is errQuiet if something stays parked that should not, or was not found.
func (q *question) print(w io.Writer, a *relay.Answer) error {
	if err := q.show(w, a); err != nil {
		return err
	}
	if a.Refused != "" || a.Stopped+a.Unknown > 0 {
		return errQuiet
	}
	return nil
}

func (q *question) show(w io.Writer, a *relay.Answer) error {
	if *q.out == "json" {
		return q.out.print(w, a, nil, nil)
	}
	var rows [][]string
	more, well := a.More, 0
	for _, e := range a.Events {
		if e.Done == relay.DoneReleased || e.Done == relay.DoneDiscarded {
			if well++; well > maxWell {
				more++
				continue
			}
		}
		rows = append(rows, []string{string(e.Done), e.EventID.String(), e.Topic, e.Key, outcomeText(e)})
	}
	if len(rows) > 0 {
		if err := table(w, []string{"DONE", "EVENT", "TOPIC", "KEY", "DETAIL"}, rows); err != nil {
			return err
		}
	}
	if more > 0 {
		fmt.Fprintf(w, "(and %s more)\n", number(more))
	}
	_, err := fmt.Fprintln(w, q.summary(a))
	return err
}

// maxWell is how many events a table names with which all went well; -o json names more.
const maxWell = 20

func outcomeText(e relay.Outcome) string {
	switch {
	case e.Done == relay.DoneUnknown:
		return "it is not parked: released or discarded before, or never"
	case e.Before:
		return "before the relay was started again"
	case e.Done == relay.DoneReleased:
		return "seq " + number(e.Seq)
	case e.Done == relay.DoneDiscarded:
		return "-"
	}
	why := []string{string(e.Reason)}
	if e.Field != "" {
		why = append(why, e.Field)
	}
	if e.Detail != "" {
		why = append(why, e.Detail)
	}
	if e.Behind > 0 {
		return fmt.Sprintf("%s (%s behind it)", strings.Join(why, ": "), count(e.Behind, "event waits", "events wait"))
	}
	return strings.Join(why, ": ")
}

func (q *question) summary(a *relay.Answer) string {
	if a.Released+a.Discarded+a.Stopped+a.Unknown == 0 && a.Refused == "" {
		return "no such event of outbox " + q.name + " is parked"
	}
	parts := []string{number(a.Released) + " released"}
	if a.Discarded > 0 {
		parts = append(parts, number(a.Discarded)+" discarded")
	}
	if a.Stopped > 0 {
		parts = append(parts, count(a.Stopped, "line stopped", "lines stopped")+" at an event that still cannot be published")
	}
	if a.Unknown > 0 {
		parts = append(parts, number(a.Unknown)+" not parked")
	}
	if a.Refused != "" {
		parts = append(parts, "no more than that: "+a.Refused)
	}
	return strings.Join(parts, ", ")
}
