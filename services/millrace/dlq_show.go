package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/consumers/projection"
)

// shownLetter is what `dlq show -o json` prints.
type shownLetter struct {
	listedLetter
	EventTime time.Time         `json:"event_time,omitzero"`
	Seq       int64             `json:"seq,omitempty"`
	SchemaID  int               `json:"schema_id,omitempty"`
	Headers   map[string]string `json:"headers"`
	Omitted   int64             `json:"omitted_bytes,omitempty"`
	Content   json.RawMessage   `json:"content,omitempty"`
	Problem   string            `json:"content_problem,omitempty"`
	Value     []byte            `json:"value,omitempty"`
}

func newDLQShow(a *app) *cobra.Command {
	var box letterBox
	cmd := &cobra.Command{
		Use:   "show TOPIC/PARTITION/OFFSET|EVENT_ID",
		Short: "Show all of an event that a sink put aside: why, and what it says",
		Long: `Show all of an event that a sink put aside: why, its headers, and its contents
as JSON, decoded with the schemas of today where that is possible. The event is
named as "millrace dlq list" shows it, or by its id.`,
		Example: "  millrace dlq show shop.orders/3/4711\n  millrace dlq show --sink warehouse 7b1f6a3e-52cb-4a1e-9d7f-3c1d2e4f5a6b -o json",
		Args:    takes("TOPIC/PARTITION/OFFSET|EVENT_ID"),
	}
	box.sinkFlag(cmd, a)
	out := output(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := box.desk(a)
		if err != nil {
			return err
		}
		e, err := d.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return d.show(cmd.Context(), e).print(cmd.OutOrStdout(), out)
	}
	return cmd
}

var errFound = errors.New("found")

// find looks for a letter.
func (d *letterDesk) find(ctx context.Context, name string) (*dlq.Entry, error) {
	var found *dlq.Entry
	err := d.List(ctx, dlq.Filter{Settled: true}, func(e dlq.Entry) error {
		if e.ID != name && placeText(e.TopicPartition, e.Offset) != name {
			return nil
		}
		found = &e
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, err
	}
	if found == nil {
		return nil, fmt.Errorf("sink %s has put no event %q aside (millrace dlq list --sink %s)", d.name, clean(name), d.name)
	}
	return found, nil
}

// show decodes a letter, if the registry answers and the event can be decoded.
func (d *letterDesk) show(ctx context.Context, e *dlq.Entry) *shownLetter {
	l := &e.Letter
	s := &shownLetter{listedLetter: listedLetter{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Key: l.Key, EventID: l.ID, Type: l.Type,
		Class: l.Class, Reason: l.Reason, At: l.At, Pending: e.Pending, Asked: e.Asked}, Headers: map[string]string{}, Omitted: l.Omitted, Value: l.Record.Value}
	for _, h := range l.Record.Headers {
		s.Headers[h.Key] = string(h.Value)
	}
	ev, err := d.decode(ctx, l)
	if err == nil {
		s.Type, s.Seq, s.EventTime, s.SchemaID = cmp.Or(ev.Type, s.Type), ev.Seq, ev.Time, ev.SchemaID
		err = ev.Err
	}
	switch {
	case l.Omitted > 0:
		s.Problem = fmt.Sprintf("the value of %s is on its topic only", byteText(l.Omitted))
	case err != nil:
		s.Problem = oneLine(err)
	default:
		s.Content = projection.AppendJSON(nil, ev.Fields())
	}
	return s
}

func (d *letterDesk) decode(ctx context.Context, l *consumers.Letter) (consumers.Event, error) {
	catalogue, _, err := d.config.declarations()
	if err != nil {
		return consumers.Event{}, err
	}
	reg, err := d.config.registry()
	if err != nil {
		return consumers.Event{}, err
	}
	dec, err := consumers.NewDecoder(consumers.DecoderConfig{Registry: reg, Catalogue: catalogue, UnknownGrace: -1})
	if err != nil {
		return consumers.Event{}, err
	}
	return dec.Decode(ctx, l.Record)
}

func (s *shownLetter) print(w io.Writer, out *format) error {
	if *out == "json" {
		return out.print(w, s, nil, nil)
	}
	rows := [][]string{{"event", placeText(consumers.TopicPartition{Topic: s.Topic, Partition: s.Partition}, s.Offset)}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	add("id", s.EventID)
	add("type", s.Type)
	add("key", s.Key)
	add("class", s.Class)
	add("reason", s.Reason)
	add("stands", s.standing())
	add("put aside", s.At.Format(time.RFC3339Nano))
	if !s.EventTime.IsZero() {
		add("occurred", s.EventTime.Format(time.RFC3339Nano))
	}
	if s.Seq > 0 {
		add("version", strconv.FormatInt(s.Seq, 10))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		add("header", name+": "+s.Headers[name])
	}
	add("unreadable", s.Problem)
	for _, row := range rows {
		if _, err := fmt.Fprintf(w, "%-10s  %s\n", row[0], clean(row[1])); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(w, letterText(s))
	return err
}

func (s *shownLetter) standing() string {
	switch {
	case !s.Pending:
		return "settled: it was applied or dropped"
	case s.Asked:
		return "pending; somebody asked for its key to be settled"
	}
	return "pending"
}

// letterText is what the event says, or its bytes where nobody can read them.
func letterText(s *shownLetter) string {
	if s.Content != nil {
		return contentText(shownEvent{Content: s.Content})
	}
	if len(s.Value) == 0 {
		return ""
	}
	const most = 4 << 10
	text := "\n" + base64.StdEncoding.EncodeToString(s.Value[:min(len(s.Value), most)]) + "\n"
	if len(s.Value) > most {
		text += fmt.Sprintf("(the first %s of %s; all of it: -o json)\n", byteText(most), byteText(int64(len(s.Value))))
	}
	return strings.TrimRight(text, " ")
}
