package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/spf13/cobra"
)

// format is the value of -o.
type format string

// output adds -o to a command that prints a table.
func output(cmd *cobra.Command) *format {
	f := format("table")
	cmd.Flags().VarP(&f, "output", "o", "output format: table, json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }
func (f *format) Set(s string) error {
	if s != "table" && s != "json" {
		return fmt.Errorf("%q is none of table, json", s)
	}
	*f = format(s)
	return nil
}

// print writes value as JSON, or as the table that its rows make.
func (f *format) print(w io.Writer, value any, head []string, rows [][]string) error {
	if *f == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(value)
	}
	return table(w, head, rows)
}

// maxCell is the widest cell of a table, in columns of the terminal, and maxLast that of the last cell of a row, which pushes nothing
// aside. A longer one is cut and ends in an ellipsis; -o json shows all of it.
const (
	maxCell = 60
	maxLast = 240
)

// table writes rows in aligned columns. What is in a cell may come from anybody: see clean.
func table(w io.Writer, head []string, rows [][]string) error {
	all := make([][]string, 0, len(rows)+1)
	width := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		line := make([]string, len(head))
		for c := range min(len(row), len(head)) {
			limit := maxCell
			if c == len(head)-1 {
				limit = maxLast
			}
			line[c] = cell(row[c], limit)
			width[c] = max(width[c], lipgloss.Width(line[c]))
		}
		all = append(all, line)
	}
	var b strings.Builder
	for _, row := range all {
		line := ""
		for c, text := range row {
			line += text + strings.Repeat(" ", width[c]-lipgloss.Width(text)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is a value made fit for a table, at most so many columns wide.
func cell(s string, limit int) string {
	s = clean(s)
	if lipgloss.Width(s) <= limit {
		return s
	}
	n := 0
	for i, r := range s {
		if n += lipgloss.Width(string(r)); n > limit-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// count is a number of things: "1 row", "1,200 rows".
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// ago is how old something is, for a person: "-" if it is not known.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return short(max(0, now.Sub(t)))
}

// short is a duration without the digits that nobody reads: 3.8ms, 4.5s, 12m30s, 3h12m.
func short(d time.Duration) string {
	switch {
	case d >= time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
