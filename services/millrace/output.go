package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

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

// maxCell is the widest cell of a table, in characters; a longer one is cut and ends in an ellipsis.
const maxCell = 60

// table writes rows in aligned columns. Control characters are shown escaped: what is in a cell may come from anybody.
func table(w io.Writer, head []string, rows [][]string) error {
	width := make([]int, len(head))
	all := append([][]string{head}, rows...)
	for r, row := range all {
		for c := range row {
			if r > 0 {
				all[r][c] = cell(row[c])
			}
			width[c] = max(width[c], utf8.RuneCountInString(all[r][c]))
		}
	}
	var b strings.Builder
	for _, row := range all {
		line := ""
		for c, text := range row {
			line += text + strings.Repeat(" ", width[c]-utf8.RuneCountInString(text)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func cell(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError {
			return '·'
		}
		return r
	}, s)
	if utf8.RuneCountInString(clean) > maxCell {
		clean = string([]rune(clean)[:maxCell-1]) + "…"
	}
	return clean
}
