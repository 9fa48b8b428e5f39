package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/millrace/millrace/test/bench/measure"
)

// Report is everything that a run has measured.
type Report struct {
	Machine  measure.Machine   `json:"machine"`
	Commit   string            `json:"commit"`
	Versions map[string]string `json:"versions"`
	// Settings are what the run was asked for.
	Settings map[string]any `json:"settings"`
	Rows     []*Row         `json:"rows"`
	// Failures are cases that came to no result, and why.
	Failures []string `json:"failures,omitempty"`
}

// Row is one figure, measured once in every repetition.
type Row struct {
	Case string `json:"case"`
	What string `json:"what"`
	Unit string `json:"unit,omitempty"`
	// Values are those of the repetitions, in their order.
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	// Target is what the median is to reach; empty if there is none.
	Target string `json:"target,omitempty"`
	Met    *bool  `json:"met,omitempty"`
	// Commit is that of the run that measured it, where it is not the report's.
	Commit string `json:"commit,omitempty"`

	target *target
}

// target is a bound on a median.
type target struct {
	bound float64
	least bool
}

func atLeast(v float64) target { return target{v, true} }
func atMost(v float64) target  { return target{v, false} }

func (t target) met(v float64) bool {
	if t.least {
		return v >= t.bound
	}
	return v <= t.bound
}

func (t target) text(unit string) string {
	if t.least {
		return ">= " + number(t.bound, unit)
	}
	return "<= " + number(t.bound, unit)
}

// NewReport begins a report on this machine and this tree.
func NewReport(o Options) *Report {
	return &Report{Machine: measure.ThisMachine(), Commit: measure.Commit(), Versions: map[string]string{}, Settings: o.settings()}
}

// caseRows adds rows to one case.
type caseRows struct {
	report *Report
	name   string
}

func (r *Report) in(name string) caseRows { return caseRows{r, name} }

// row takes the value of one more repetition.
func (c caseRows) row(what, unit string, value float64, targets ...target) {
	i := slices.IndexFunc(c.report.Rows, func(r *Row) bool { return r.Case == c.name && r.What == what })
	if i < 0 {
		i = len(c.report.Rows)
		c.report.Rows = append(c.report.Rows, &Row{Case: c.name, What: what, Unit: unit})
	}
	r := c.report.Rows[i]
	r.Values = append(r.Values, round(value))
	r.Median, r.Min, r.Max = round(measure.Median(r.Values)), slices.Min(r.Values), slices.Max(r.Values)
	for _, t := range targets {
		met := t.met(r.Median)
		r.target, r.Target, r.Met = &t, t.text(unit), &met
	}
}

// round keeps four digits: no figure here is better than that.
func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// number is a value with its unit.
func number(v float64, unit string) string {
	text := strconv.FormatFloat(v, 'f', -1, 64)
	if math.Abs(v) >= 10_000 {
		text = thousands(int64(math.Round(v)))
	}
	return strings.TrimSpace(text + " " + unit)
}

// thousands is a number with its thousands apart.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Print writes the table.
func (r *Report) Print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s, %d cores, %g GB, %s %s, %s\ncommit %s", r.Machine.CPU, r.Machine.Cores, r.Machine.MemoryGB, r.Machine.OS, r.Machine.Kernel, r.Machine.Go, r.Commit)
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(w, ", %s %s", name, r.Versions[name])
	}
	fmt.Fprint(w, "\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "case\twhat\tmedian\tmin - max\ttarget\tmet")
	before := ""
	for _, row := range r.Rows {
		name, spread, met := row.Case, "", ""
		if name == before {
			name = ""
		}
		before = row.Case
		if len(row.Values) > 1 {
			spread = number(row.Min, "") + " - " + number(row.Max, "")
		}
		if row.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*row.Met]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", name, row.What, number(row.Median, row.Unit), spread, row.Target, met)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	for _, f := range r.Failures {
		fmt.Fprintln(w, "FAILED:", f)
	}
	return nil
}

// JSON writes the report as JSON.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// Write writes the report as JSON into a file.
func (r *Report) Write(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("make the folder for results: %w", err)
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return errors.Join(r.JSON(f), f.Close())
}

// moduleVersion is the version of a module that this program is built with.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, d := range info.Deps {
		if d.Path == path {
			return strings.TrimPrefix(d.Version, "v")
		}
	}
	return "unknown"
}
