package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/relay"
)

// verifiedOutboxes are the outboxes to verify: those that were named, or all where neither they nor sinks were.
func (c *Config) verifiedOutboxes(named, sinks, entities []string) ([]string, error) {
	for _, name := range named {
		if c.Outboxes[name] == nil {
			return nil, c.file.Errorf("outboxes", "has no %q (it has %q)", name, sorted(c.Outboxes))
		}
	}
	if len(named)+len(sinks)+len(entities) > 0 {
		return named, nil
	}
	return sorted(c.Outboxes), nil
}

// outbox compares one with its topics.
func (v *verifying) outbox(cmd *cobra.Command, c *Config, name string, sample uint64) (*relay.Verified, error) {
	cfg := c.Outboxes[name].Config
	cfg.Outbox = name
	var err error
	if cfg.Kafka, err = c.Kafka.options(); err != nil {
		return nil, err
	}
	if cfg.Registry, err = c.registry(); err != nil {
		return nil, err
	}
	p := newSteps(cmd.ErrOrStderr())
	defer p.stop()
	began := time.Now()
	r, err := relay.Verify(cmd.Context(), cfg, relay.VerifyOptions{Sample: sample, Turn: uint64(began.UnixNano()), Progress: func(at relay.Verifying) {
		rate := float64(at.Done) / max(time.Since(began).Seconds(), 0.001)
		p.at(fmt.Sprintf("verifying outbox %s, %s a second, %s", name, number(int64(rate)), clean(at.Phase)), at.Done, at.Total)
	}})
	if err != nil {
		return nil, fmt.Errorf("%s", outboxAt(name).text(err))
	}
	return r, nil
}

// printOutboxes shows a line an outbox, and the differences below.
func (v *verifiedAll) printOutboxes(w io.Writer) error {
	var rows, differences [][]string
	for _, r := range v.Outboxes {
		rows = append(rows, []string{r.Outbox, number(r.Rows), number(r.Records), number(r.Differences), outboxChecked(r), outboxExplained(r)})
		differences = append(differences, outboxDifferences(r, time.Now())...)
	}
	if len(rows) == 0 {
		return nil
	}
	if err := table(w, []string{"OUTBOX", "ROWS", "IN THE TOPICS", "DIFFERENT", "CHECKED", "NO DIFFERENCE"}, rows); err != nil || len(differences) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return table(w, []string{"OUTBOX", "KIND", "TOPIC", "KEY", "EVENT", "ROW", "AT", "SINCE", "DETAIL"}, differences)
}

func outboxChecked(r *relay.Verified) string {
	text := "up to version " + strconv.FormatInt(r.Seq, 10)
	if r.Sample > 1 {
		text += fmt.Sprintf(", 1/%d of the keys", r.Sample)
	}
	if r.OrderSample > 1 {
		text += fmt.Sprintf(", the order of 1/%d", r.OrderSample)
	}
	return text
}

// outboxExplained counts what is not the same on both sides, and should not be.
func outboxExplained(r *relay.Verified) string {
	var all []string
	for _, n := range []struct {
		n    int64
		what string
	}{
		{r.Parked, "parked"}, {r.Discarded, "discarded"}, {r.Repeats, "repeated"}, {r.Replayed, "replayed"}, {r.Overtaken, "overtaken"},
		{r.BeyondTopic, "retained out of the topic"}, {r.BeyondOutbox, "retained out of the outbox"}, {r.Moving + r.Later, "under way"},
	} {
		if n.n > 0 {
			all = append(all, number(n.n)+" "+n.what)
		}
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, ", ")
}

func outboxDifferences(r *relay.Verified, now time.Time) (rows [][]string) {
	named := map[relay.Difference]int64{}
	for _, d := range r.Events {
		named[d.Kind]++
		id, row := "-", "-"
		if d.EventID != uuid.Nil {
			id = d.EventID.String()
		}
		if d.Row > 0 {
			row = strconv.FormatInt(d.Row, 10)
		}
		rows = append(rows, []string{r.Outbox, string(d.Kind), d.Topic, d.Key, id, row, strings.Join(d.Offsets, " "), since(d.Since, now), d.Detail})
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
		if more := r.Kinds[kind] - named[kind]; more > 0 {
			rows = append(rows, []string{r.Outbox, string(kind), "… and " + number(more) + " more"})
		}
	}
	return rows
}

// notes are what a person should read of an outbox besides.
func outboxNotes(r *relay.Verified) (notes []string) {
	for i, d := range r.DiscardedEvents {
		if i == 3 {
			notes = append(notes, fmt.Sprintf("%s were discarded; -o json names more", count(r.Discarded, "event", "events")))
			break
		}
		notes = append(notes, fmt.Sprintf("event %s, key %s: %s", d.EventID, d.Key, d))
	}
	if r.Overtaken > 0 {
		d := r.OvertakenEvents[0]
		notes = append(notes, fmt.Sprintf("%s of a key came behind one with a higher id of another transaction: the writers of such keys do not take turns (the first: event %s, key %s: %s)",
			count(r.Overtaken, "event", "events"), d.EventID, d.Key, d.Detail))
	}
	return append(notes, r.Notes...)
}
