package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// Keep takes over from a report in a file, if there is one, what this one has not measured: a whole run takes long, and its cases
// can be measured one by one. What is compared with each other is of one case, and so of one run.
func (r *Report) Keep(file string) error {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the last report: %w", err)
	}
	var old Report
	if err := json.Unmarshal(raw, &old); err != nil {
		return fmt.Errorf("read the last report %s: %w", file, err)
	}
	measured := slices.Clone(r.Rows)
	for _, row := range old.Rows {
		if slices.ContainsFunc(measured, func(m *Row) bool { return m.Case == row.Case }) {
			continue
		}
		if row.Commit == "" && old.Commit != r.Commit {
			row.Commit = old.Commit
		}
		r.Rows = append(r.Rows, row)
	}
	for name, version := range old.Versions {
		if r.Versions[name] == "" {
			r.Versions[name] = version
		}
	}
	return nil
}
