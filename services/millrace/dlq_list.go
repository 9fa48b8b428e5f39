package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/consumers/dlq"
)

// listedLetter is what `dlq list -o json` prints of a letter.
type listedLetter struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Key       string    `json:"key"`
	EventID   string    `json:"event_id,omitempty"`
	Type      string    `json:"type,omitempty"`
	Class     string    `json:"class"`
	Reason    string    `json:"reason"`
	At        time.Time `json:"at"`
	Pending   bool      `json:"pending"`
	Asked     bool      `json:"asked,omitempty"`
}

// listedKey is what `dlq list --keys -o json` prints of a key.
type listedKey struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Key       string    `json:"key"`
	Offset    int64     `json:"offset"`
	Type      string    `json:"type,omitempty"`
	Letters   int64     `json:"letters"`
	Reason    string    `json:"reason"`
	At        time.Time `json:"at"`
	Asked     bool      `json:"asked,omitempty"`
}

func newDLQList(a *app) *cobra.Command {
	var box letterBox
	var keys bool
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the events that a sink put aside, with the reason",
		Long: `List the events that a sink put aside: those that it could not apply (poison),
and the later events of their keys (quarantined), which wait so that their order
is kept. Everything else goes on. Begin with --keys: a line a key, with the
event that it stands at and what is wrong with that.

It reads Kafka, so it also answers when the sink does not run. An event leaves
the list when it is applied (millrace dlq redrive) or dropped (millrace dlq
discard); --all shows those as well.`,
		Example: "  millrace dlq list --keys\n  millrace dlq list --sink warehouse --topic shop.orders --class poison --since 2h\n  millrace dlq list --all -o json",
		Args:    takes(),
	}
	box.flags(cmd, a)
	out := output(cmd)
	cmd.Flags().BoolVar(&keys, "keys", false, "a line a key instead of one an event")
	cmd.Flags().BoolVar(&box.filter.Settled, "all", false, "show what was applied or dropped since, too")
	cmd.Flags().IntVar(&limit, "limit", 0, "stop after `N` lines (default: all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := box.check(time.Now()); err != nil {
			return err
		}
		switch {
		case limit < 0:
			return usagef("--limit %d is below 0", limit)
		case keys && box.filter.Settled:
			return usagef("--keys shows what is pending: leave --all out")
		}
		d, err := box.desk(a)
		if err != nil {
			return err
		}
		w := newLines(cmd.OutOrStdout(), out, limit)
		if keys {
			return d.listKeys(cmd, &box, w)
		}
		return d.listLetters(cmd, &box, w)
	}
	return cmd
}

func (d *letterDesk) listLetters(cmd *cobra.Command, box *letterBox, w *lines) error {
	w.head = []string{"PUT ASIDE", "EVENT", "KEY", "TYPE", "CLASS", "REASON"}
	err := d.List(cmd.Context(), box.filter, func(e dlq.Entry) error {
		l := &e.Letter
		class := l.Class
		switch {
		case !e.Pending:
			class = "settled"
		case e.Asked:
			class += ", asked"
		}
		return w.line(listedLetter{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Key: l.Key, EventID: l.ID, Type: l.Type, Class: l.Class,
			Reason: l.Reason, At: l.At, Pending: e.Pending, Asked: e.Asked},
			[]string{l.At.UTC().Format(time.DateTime), placeText(l.TopicPartition, l.Offset), keyText(l.Key, l.HasKey()), cmp.Or(l.Type, "-"), class, l.Reason})
	})
	return w.end(err, fmt.Sprintf("(sink %s has put nothing aside that is like this)\n", d.name))
}

func (d *letterDesk) listKeys(cmd *cobra.Command, box *letterBox, w *lines) error {
	keys, err := d.Keys(cmd.Context(), box.filter)
	if err != nil {
		return err
	}
	w.head = []string{"SINCE", "STANDS AT", "KEY", "TYPE", "EVENTS", "REASON"}
	for _, k := range keys {
		reason := k.Reason
		if k.Asked {
			reason = "(asked) " + reason
		}
		if err = w.line(listedKey{Topic: k.Topic, Partition: k.Partition, Key: k.Key, Offset: k.From, Type: k.Type, Letters: k.Letters, Reason: k.Reason, At: k.At, Asked: k.Asked},
			[]string{k.At.UTC().Format(time.DateTime), placeText(k.TopicPartition, k.From), keyText(k.Key, k.Key != ""), cmp.Or(k.Type, "-"), number(k.Letters), reason}); err != nil {
			break
		}
	}
	return w.end(err, fmt.Sprintf("(sink %s has no key in quarantine that is like this)\n", d.name))
}

// lines prints a list while it is being read: a block of rows at a time as a table, or the elements of a JSON array.
type lines struct {
	w     *bufio.Writer
	out   *format
	head  []string
	rows  [][]string
	limit int
	n     int
}

// block is the number of rows that are aligned with each other.
const block = 500

var errEnough = errors.New("enough lines")

func newLines(w io.Writer, out *format, limit int) *lines {
	return &lines{w: bufio.NewWriter(w), out: out, limit: limit}
}

func (l *lines) line(value any, row []string) error {
	if l.limit > 0 && l.n >= l.limit {
		return errEnough
	}
	l.n++
	if *l.out == "json" {
		sep := ",\n  "
		if l.n == 1 {
			sep = "[\n  "
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("  ", "  ")
		if err := enc.Encode(value); err != nil {
			return err
		}
		l.w.WriteString(sep)
		_, err := l.w.Write(bytes.TrimRight(b.Bytes(), "\n"))
		return err
	}
	l.rows = append(l.rows, row)
	if len(l.rows) < block {
		return nil
	}
	return l.flush()
}

func (l *lines) flush() error {
	rows := l.rows
	l.rows = nil
	if err := table(l.w, l.head, rows); err != nil {
		return err
	}
	return l.w.Flush()
}

// end ends the list; err is what ended the reading. Without any line it prints none.
func (l *lines) end(err error, none string) error {
	if err != nil && !errors.Is(err, errEnough) {
		return errors.Join(err, l.w.Flush())
	}
	switch {
	case *l.out == "json" && l.n == 0:
		l.w.WriteString("[]\n")
	case *l.out == "json":
		l.w.WriteString("\n]\n")
	case l.n == 0:
		l.w.WriteString(none)
	case len(l.rows) > 0:
		err = l.flush()
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return errors.Join(err, l.w.Flush())
}
