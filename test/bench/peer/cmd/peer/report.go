package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/millrace/millrace/test/bench/measure"
	"github.com/millrace/millrace/test/bench/peer"
)

// Report is everything that a run has measured, one element for each repetition of each setting.
type Report struct {
	Machine  measure.Machine              `json:"machine"`
	Commit   string                       `json:"commit"`
	Versions map[string]string            `json:"versions"`
	Settings map[string]map[string]string `json:"settings"` // of the connector, by the name that results give them
	Drain    []peer.Result                `json:"drain,omitempty"`
	Latency  []peer.LatencyResult         `json:"latency,omitempty"`
	Kill     []peer.KillResult            `json:"kill,omitempty"`
}

func (r *Report) empty() bool { return len(r.Drain)+len(r.Latency)+len(r.Kill) == 0 }

// remember keeps the settings behind a name.
func (r *Report) remember(name string, o peer.Options) { r.Settings[name] = o.Settings() }

func (r *Report) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func (r *Report) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	var text strings.Builder
	if err := r.json(&text); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// row is a line of the table: one figure in all repetitions.
type row struct {
	group  string // setting and case
	what   string
	format string
	values []float64
}

// rows of the table, in the order in which they were measured first.
func (r *Report) rows() []*row {
	var all []*row
	add := func(group, what, format string, value float64) {
		i := slices.IndexFunc(all, func(l *row) bool { return l.group == group && l.what == what })
		if i < 0 {
			i, all = len(all), append(all, &row{group: group, what: what, format: format})
		}
		all[i].values = append(all[i].values, value)
	}
	for _, d := range r.Drain {
		group := fmt.Sprintf("%s: drain of %d", d.Setting, d.Events)
		add(group, "events/s, first to last", "%.0f", d.EventsPerSecond)
		add(group, "events/s, second half", "%.0f", d.SecondHalf)
		add(group, "CPU s per million", "%.1f", d.CPU)
		add(group, "CPU s per million, second half", "%.1f", d.SecondHalfCPU)
		add(group, "WAL sender CPU s per million", "%.1f", d.SenderCPU)
		add(group, "peak resident MB", "%.0f", d.PeakMB)
		add(group, "start to first event s", "%.1f", d.FirstEvent)
	}
	for _, l := range r.Latency {
		group := fmt.Sprintf("%s: %d events/s", l.Setting, l.Rate)
		add(group, "latency p50 ms", "%.1f", l.P50)
		add(group, "latency p99 ms", "%.1f", l.P99)
		add(group, "CPU s per million", "%.0f", l.CPU)
		add(group, "WAL sender CPU s per million", "%.0f", l.SenderCPU)
		add(group, "late transactions", "%.0f", float64(l.Late))
	}
	for _, k := range r.Kill {
		group := k.Setting + ": kill -9 in a drain"
		add(group, "sent before", "%.0f", float64(k.Sent))
		add(group, "sent again", "%.0f", float64(k.Repeated))
		add(group, "missing", "%.0f", float64(k.Missing))
		add(group, "restart to first record s", "%.1f", k.Restart)
	}
	return all
}

// print writes the table.
func (r *Report) print(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "\n%s, %d cores, %g GB, %s %s, %s\ncommit %s", m.CPU, m.Cores, m.MemoryGB, m.OS, m.Kernel, m.Go, r.Commit)
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(w, ", %s %s", name, r.Versions[name])
	}
	fmt.Fprint(w, "\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "settings and case\twhat\tmedian\tmin - max")
	before := ""
	for _, l := range r.rows() {
		group := l.group
		if group == before {
			group = ""
		}
		before = l.group
		spread := ""
		if len(l.values) > 1 {
			spread = fmt.Sprintf(l.format+" - "+l.format, slices.Min(l.values), slices.Max(l.values))
		}
		fmt.Fprintf(t, "%s\t%s\t"+l.format+"\t%s\n", group, l.what, measure.Median(l.values), spread)
	}
	return t.Flush()
}
