package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/sink"
)

// maxStatement is the longest statement read from standard input, in bytes.
const maxStatement = 1 << 20

type sqlQuestion struct {
	SQL     string `json:"sql"`
	MaxRows int    `json:"max_rows,omitempty"`
	Timeout string `json:"timeout,omitempty"`
}

// sqlAnswer is what a warehouse sink answers.
type sqlAnswer struct {
	Columns   []string `json:"columns"`
	Types     []string `json:"types"`
	Rows      [][]any  `json:"rows"`
	Truncated bool     `json:"truncated"`
	Elapsed   string   `json:"elapsed"`
}

func newSQL(a *app) *cobra.Command {
	var r remote
	var maxRows int
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "sql STATEMENT",
		Short: "Ask a running warehouse sink a question in SQL (read-only)",
		Long: `Ask a running warehouse sink a question in SQL. It is read-only and limited in
time and rows.

silver.ENTITY holds one row a key, as it is now; bronze.events holds every event
as it came. "-" reads the statement from standard input.`,
		Example: `  millrace sql "select city, count(*) from silver.customer group by city"
  millrace sql "select type, count(*), max(event_time) from bronze.events group by type" -o json
  millrace sql - < question.sql`,
		Args: takes("STATEMENT"),
	}
	out := output(cmd)
	r.flags(cmd)
	cmd.Flags().IntVar(&maxRows, "max-rows", 1000, "most rows returned")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long the statement may take")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		statement, err := statement(cmd, got[0])
		if err != nil {
			return err
		}
		if err := r.resolve(a, sink.Warehouse); err != nil {
			return err
		}
		var answer sqlAnswer
		question := sqlQuestion{SQL: statement, MaxRows: maxRows, Timeout: timeout.String()}
		if err := r.call(cmd.Context(), timeout, http.MethodPost, "/sql", question, &answer); err != nil {
			return err
		}
		return answer.print(cmd, out)
	}
	return cmd
}

func statement(cmd *cobra.Command, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxStatement))
	if err != nil {
		return "", fmt.Errorf("read the statement from standard input: %w", err)
	}
	return string(raw), nil
}

func (s sqlAnswer) print(cmd *cobra.Command, out *format) error {
	rows := make([][]string, len(s.Rows))
	for i, r := range s.Rows {
		rows[i] = make([]string, len(r))
		for c, v := range r {
			rows[i][c] = value(v)
		}
	}
	if err := out.print(cmd.OutOrStdout(), s, s.Columns, rows); err != nil || *out == "json" {
		return err
	}
	note := ""
	if s.Truncated {
		note = ", more were cut off: --max-rows"
	}
	took := s.Elapsed
	if d, err := time.ParseDuration(took); err == nil {
		took = short(d)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "(%s, %s%s)\n", count(int64(len(s.Rows)), "row", "rows"), took, note)
	return err
}

// value shows one value of a row.
func value(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return v
	case json.Number:
		return v.String()
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(string(raw))
}
