package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/services/relay"
)

// print shows a line a stage and event.
func (t *traced) print(w, stderr io.Writer, out *format) error {
	if *out == "json" {
		return out.print(w, t, nil, nil)
	}
	occurred := map[string]time.Time{}
	var rows [][]string
	for _, r := range t.Rows {
		occurred[r.EventID.String()] = r.OccurredAt
		rows = append(rows, []string{"outbox " + r.Outbox, fmt.Sprintf("row %d, transaction %d", r.Row, r.Xid), r.Type, r.State, stamp(r.OccurredAt), "", r.EventID.String()})
		if r.State == relay.TracedParked || r.State == relay.TracedDiscarded {
			rows = append(rows, []string{"", "", "", absence(r), stamp(r.ParkedAt), delay(r.OccurredAt, r.ParkedAt), ""})
		}
	}
	for _, r := range t.Records {
		version := ""
		if r.Seq > 0 {
			version = fmt.Sprintf("version %d", r.Seq)
		}
		rows = append(rows, []string{"topic", placeText(consumers.TopicPartition{Topic: r.Topic, Partition: r.Partition}, r.Offset), r.Type, version, stamp(r.At), delay(occurred[r.EventID], r.At), r.EventID})
	}
	for _, s := range t.Sinks {
		rows = append(rows, s.rows(t)...)
	}
	if len(rows) > 0 {
		if err := table(w, []string{"STAGE", "WHERE", "WHAT", "STATE", "WHEN", "AFTER", "EVENT"}, rows); err != nil {
			return err
		}
	}
	if t.Earlier > 0 {
		fmt.Fprintf(w, "(and %s before: --limit)\n", count(t.Earlier, "event", "events"))
	}
	for _, stage := range sorted(t.Away) {
		fmt.Fprintln(stderr, clean(stage+": "+t.Away[stage]))
	}
	return nil
}

// absence says why a row is not in its topic.
func absence(r tracedRow) string {
	if r.State == relay.TracedDiscarded {
		return r.Detail
	}
	return string(r.Reason) + ": " + r.Detail
}

func (s *tracedSink) rows(t *traced) (rows [][]string) {
	for _, l := range s.Letters {
		standing := "settled"
		if l.Pending {
			standing = "pending"
		}
		rows = append(rows, []string{"sink " + s.Name, "dead letter of " + placeText(consumers.TopicPartition{Topic: l.Topic, Partition: l.Partition}, l.Offset), l.Class,
			standing + ": " + l.Reason, stamp(l.At), "", ""})
	}
	if position := s.position(t); position != "" {
		rows = append(rows, []string{"sink " + s.Name, position, "", s.standing(t), "", "", ""})
	}
	for _, k := range s.States {
		what := fmt.Sprintf("version %d", k.Version)
		if !k.Exists {
			what += ", deleted"
		}
		rows = append(rows, []string{"sink " + s.Name, k.Entity, "", what, stamp(k.Time), "", k.EventID})
	}
	return rows
}

// newest is the newest record that is shown of a topic that the sink follows.
func (s *tracedSink) newest(t *traced) (newest *tracedRecord, at int64) {
	for i := range t.Records {
		for _, p := range s.Positions {
			if r := &t.Records[i]; p.Topic == r.Topic && p.Partition == r.Partition {
				newest, at = r, p.Offset
			}
		}
	}
	return newest, at
}

func (s *tracedSink) position(t *traced) string {
	if r, at := s.newest(t); r != nil {
		return fmt.Sprintf("%s/%d up to %d", r.Topic, r.Partition, at)
	}
	return ""
}

func (s *tracedSink) standing(t *traced) string {
	r, at := s.newest(t)
	if r.Offset < at {
		return "passed"
	}
	return fmt.Sprintf("%s to go", count(r.Offset-at+1, "offset", "offsets"))
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02T15:04:05.000Z")
}

// delay is how much later something was; empty if that is not known.
func delay(from, to time.Time) string {
	if from.IsZero() || to.IsZero() || to.Before(from) {
		return ""
	}
	return "+" + short(to.Sub(from))
}

// verdict says that nothing was found.
func (t *traced) verdict(w io.Writer, what string) error {
	n := len(t.Rows) + len(t.Records)
	for _, s := range t.Sinks {
		n += len(s.States) + len(s.Letters)
	}
	if n > 0 {
		return nil
	}
	away := ""
	if len(t.Away) > 0 {
		away = " (" + strings.Join(sorted(t.Away), ", ") + " could not be asked)"
	}
	fmt.Fprintln(w, clean("nothing is known of "+what+away+": neither an outbox nor a topic nor a sink has it"))
	return errQuiet
}
