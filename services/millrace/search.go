package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/sink"
)

// searchAnswer is what a search sink answers.
type searchAnswer struct {
	Entity string      `json:"entity"`
	Total  int64       `json:"total"`
	TookMS float64     `json:"took_ms"`
	Hits   []searchHit `json:"hits"`
}

type searchHit struct {
	Key     string         `json:"key"`
	Score   float64        `json:"score"`
	Version int64          `json:"version"`
	Fields  map[string]any `json:"fields"`
}

func newSearch(a *app) *cobra.Command {
	var r remote
	var size, from int
	var sort string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "search ENTITY [QUERY]",
		Short: "Search the documents of an entity in a running search sink",
		Long: `Search the documents of an entity in a running search sink.

The query names words, or fields and values: status:shipped, total:>100,
"a phrase", +must, -not, pre*. Without one, every document is found.`,
		Example: `  millrace search order 'status:shipped +total:>100' --sort -total
  millrace search product widget --size 3 -o json`,
		Args: takes("ENTITY", "[QUERY]"),
	}
	out := output(cmd)
	r.flags(cmd)
	cmd.Flags().IntVar(&size, "size", 10, "most hits shown")
	cmd.Flags().IntVar(&from, "from", 0, "hits passed over first")
	cmd.Flags().StringVar(&sort, "sort", "", "fields to sort by, a minus for descending: -total,placed_at (default: best first)")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long the search may take")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if err := r.resolve(a, sink.Search); err != nil {
			return err
		}
		v := url.Values{"entity": {got[0]}, "size": {fmt.Sprint(size)}, "from": {fmt.Sprint(from)}, "timeout": {timeout.String()}}
		if len(got) == 2 {
			v.Set("q", got[1])
		}
		if sort != "" {
			v.Set("sort", sort)
		}
		var answer searchAnswer
		if err := r.call(cmd.Context(), timeout, http.MethodGet, "/search?"+v.Encode(), nil, &answer); err != nil {
			return err
		}
		rows := make([][]string, len(answer.Hits))
		for i, h := range answer.Hits {
			rows[i] = []string{h.Key, document(h.Fields)}
		}
		if err := out.print(cmd.OutOrStdout(), answer, []string{"KEY", "DOCUMENT"}, rows); err != nil || *out == "json" {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "(%d of %d, %s)\n", len(answer.Hits), answer.Total, short(time.Duration(answer.TookMS*float64(time.Millisecond))))
		return err
	}
	return cmd
}

// document shows the fields of a hit in one line, nulls left out.
func document(fields map[string]any) string {
	var parts []string
	for k, v := range fields {
		if v == nil {
			continue
		}
		text, ok := v.(string)
		if !ok {
			raw, _ := json.Marshal(v)
			text = string(raw)
		}
		parts = append(parts, k+"="+text)
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
