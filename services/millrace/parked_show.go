package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/services/relay"
)

// shownEvent is what `parked show -o json` prints.
type shownEvent struct {
	*relay.Parked
	Content        json.RawMessage `json:"content,omitempty"`
	ContentProblem string          `json:"content_problem,omitempty"`
	Ahead          int64           `json:"ahead"`
	Behind         int64           `json:"behind"`
	Head           string          `json:"head"`
}

func newParkedShow(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "show EVENT_ID",
		Short: "Show all of a parked event: why, where it stands, and what it says",
		Long: `Show all of a parked event: why it is parked, where it stands in the line of its
key, its headers, and its contents as JSON. Avro is decoded by the schema it was
written with, where the outbox holds that.`,
		Example: "  millrace parked show 7b1f6a3e-52cb-4a1e-9d7f-3c1d2e4f5a6b\n  millrace parked show 7b1f6a3e-52cb-4a1e-9d7f-3c1d2e4f5a6b -o json",
		Args:    takes("EVENT_ID"),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&name, "outbox", "", "`NAME` of the outbox, where there is more than one")
	cmd.RunE = func(cmd *cobra.Command, texts []string) error {
		ids, err := eventIDs(texts)
		if err != nil {
			return err
		}
		c, err := a.load()
		if err != nil {
			return err
		}
		name, o, err := c.outbox(name)
		if err != nil {
			return err
		}
		cfg := o.Config.WithDefaults()
		cfg.Outbox = name
		if cfg.Kafka, err = c.Kafka.options(); err != nil {
			return err
		}
		conn, err := connect(cmd.Context(), o)
		if err != nil {
			return fmt.Errorf("outbox %s: %w", name, err)
		}
		defer conn.Close(cmd.Context())
		s, err := relay.ShowParked(cmd.Context(), cfg, conn, ids[0])
		if errors.Is(err, relay.ErrNotParked) {
			return fmt.Errorf("event %s is not parked in outbox %s: it was released or discarded, or never parked", ids[0], name)
		}
		if err != nil {
			return err
		}
		return printShown(cmd.OutOrStdout(), out, s)
	}
	return cmd
}

func printShown(w io.Writer, out *format, s *relay.Shown) error {
	e := shownEvent{Parked: s.Parked, ContentProblem: s.ContentProblem, Ahead: s.Ahead, Behind: s.Behind, Head: s.Head.String()}
	switch {
	case s.Content != nil:
		e.Content = projection.AppendJSON(nil, s.Content)
	case s.Body != "" && json.Valid([]byte(s.Body)):
		e.Content = json.RawMessage(s.Body)
	}
	if *out == "json" {
		return out.print(w, e, nil, nil)
	}
	rows := [][]string{
		{"event", e.EventID.String()}, {"type", e.Type}, {"topic", e.Topic}, {"key", e.Key}, {"reason", string(e.Reason)},
	}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	add("field", e.Field)
	add("detail", e.Detail)
	add("line", standing(e))
	add("occurred", e.OccurredAt.Format(time.RFC3339Nano))
	add("parked", e.ParkedAt.Format(time.RFC3339Nano))
	add("row", number(e.Row))
	add("schema", e.Fingerprint)
	add("headers", e.Headers)
	add("unreadable", e.ContentProblem)
	for _, row := range rows {
		if _, err := fmt.Fprintf(w, "%-10s  %s\n", row[0], clean(row[1])); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(w, contentText(e))
	return err
}

// standing says where an event stands in its line.
func standing(e shownEvent) string {
	switch {
	case e.Alone:
		return "by itself: later events of its key do not wait for it"
	case e.Ahead > 0:
		return fmt.Sprintf("%s before it, the first is %s; %s behind it", count(e.Ahead, "event waits", "events wait"), e.Head, count(e.Behind, "event waits", "events wait"))
	}
	return "the first; " + count(e.Behind, "event waits", "events wait") + " behind it"
}

// contentText is the event's contents, indented, or as base64 where nobody can read them.
func contentText(e shownEvent) string {
	if e.Content == nil {
		if len(e.Payload) == 0 {
			return ""
		}
		return "\n" + base64.StdEncoding.EncodeToString(e.Payload) + "\n"
	}
	var v any
	dec := json.NewDecoder(strings.NewReader(string(e.Content)))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return ""
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i, line := range lines {
		lines[i] = clean(line)
	}
	return "\n" + strings.Join(lines, "\n") + "\n"
}
