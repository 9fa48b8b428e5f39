package bench

import (
	"context"
	"fmt"
	"os"
)

// sinkMemoryCase lets warehouses take a large backlog, once: a peak needs no repetition.
func (r *sinkRig) sinkMemoryCase(ctx context.Context) error {
	n := r.opts.MemoryEvents
	t, err := r.sales(ctx, 3, n)
	if err != nil {
		return err
	}
	for _, one := range []struct {
		name  string
		most  float64
		drain func() (sinkDrained, error)
	}{
		{"Postgres silver", mostSink, func() (sinkDrained, error) { return r.drainSilver(ctx, t) }},
		{"DuckDB silver and bronze", mostDuckDB, func() (sinkDrained, error) { return r.drainDuckDB(ctx, t, declareAll) }},
	} {
		r.say("%s events into %s", thousands(n), one.name)
		d, err := one.drain()
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		c := r.report.in(fmt.Sprintf("memory, %s, %s", one.name, thousands(n)))
		c.row("peak resident", "MiB", d.memory.Peak, atMost(one.most))
		c.row("peak resident without pages of files", "MiB", d.peak)
		c.row("events a second", "1/s", d.rate)
		r.say("%s: peak %.0f MiB resident", one.name, d.memory.Peak)
	}
	return nil
}

func removeAll(path string) error {
	for _, p := range []string{path, path + ".wal", path + ".tmp"} {
		if err := os.RemoveAll(p); err != nil {
			return fmt.Errorf("remove what a run has left: %w", err)
		}
	}
	return nil
}
