package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/relay"
)

// statusAnswer is what `status` shows.
type statusAnswer struct {
	Outboxes []outboxStatus `json:"outboxes"`
	Sinks    []sinkStatus   `json:"sinks"`
}

type outboxStatus struct {
	Name string `json:"name"`
	relay.Progress
	Error string `json:"error,omitempty"`
}

type sinkStatus struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Lag is how many records the sink has still to apply, over all partitions; Members how many processes run it.
	Lag     int64  `json:"lag"`
	Members int    `json:"members"`
	State   string `json:"state"`
	Letters int64  `json:"dead_letters"`
	Error   string `json:"error,omitempty"`
	// Detail is what the sink's process says of itself, where it can be asked at http.listen.
	Detail json.RawMessage `json:"detail,omitempty"`
}

// statusTimeout bounds the look at all outboxes and sinks.
const statusTimeout = 25 * time.Second

func newStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far every outbox is published and every sink has come",
		Long: `Show how far every outbox is published and every sink has come: for an outbox,
events published, events waiting, the age of the oldest of them, events parked,
how much the table retains and since when, when the cursor moved, and whether it
is paused; for a sink, records still to apply, dead letters, processes, and the
state of its consumer group.

It asks Postgres and Kafka, so it also answers when nothing of Millrace runs.
Exit status 1 if one cannot be told.`,
		Example: "  millrace status\n  millrace status -o json",
		Args:    takes(),
	}
	out := output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.load()
		if err != nil {
			return err
		}
		s, err := c.status(cmd.Context(), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		if err := s.print(cmd.OutOrStdout(), out); err != nil {
			return err
		}
		return s.failed()
	}
	return cmd
}

// status looks at everything at once: what does not answer keeps nobody waiting for the rest. w is told what is waited for.
func (c *Config) status(ctx context.Context, w io.Writer) (*statusAnswer, error) {
	opts, err := c.Kafka.options()
	if err != nil {
		return nil, err
	}
	_, projections, err := c.declarations()
	if err != nil {
		return nil, err
	}
	adm, err := c.admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	waiting := await(w)
	defer waiting.stop()
	unheard := c.Kafka.reach(ctx)
	waiting.came("Kafka")
	s := &statusAnswer{Outboxes: make([]outboxStatus, len(c.Outboxes)), Sinks: make([]sinkStatus, len(c.Sinks))}
	var looking sync.WaitGroup
	for i, name := range sorted(c.Outboxes) {
		waiting.forThese("outbox " + name)
		looking.Go(func() {
			defer waiting.came("outbox " + name)
			cfg := c.Outboxes[name].Config
			cfg.Kafka = opts
			p, err := relay.Progress{Outbox: name}, unheard
			if err == nil {
				p, err = relay.Inspect(ctx, cfg)
			}
			s.Outboxes[i] = outboxStatus{Name: name, Progress: p, Error: outboxAt(name).text(err)}
		})
	}
	for i, name := range sorted(c.Sinks) {
		waiting.forThese("sink " + name)
		looking.Go(func() {
			defer waiting.came("sink " + name)
			_, topics, err := c.Sinks[name].Resolve(projections)
			err = cmp.Or(err, unheard)
			var row sinkStatus
			if err == nil {
				row, err = groupStatus(ctx, adm, opts, name, topics)
			}
			row.Name, row.Kind, row.Error = name, c.Sinks[name].Kind, sinkAt(name).text(err)
			s.Sinks[i] = row
		})
	}
	details := c.details(ctx)
	looking.Wait()
	for i := range s.Sinks {
		s.Sinks[i].Detail = details["sink "+s.Sinks[i].Name]
	}
	return s, nil
}

// details asks the process at http.listen what its roles say of themselves; none if nothing answers there.
func (c *Config) details(ctx context.Context) map[string]json.RawMessage {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.HTTP.Listen+"/v1/status", nil)
	if err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	out := map[string]json.RawMessage{}
	if json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out) != nil {
		return nil
	}
	return out
}

func (s *statusAnswer) print(w io.Writer, out *format) error {
	if *out == "json" {
		return out.print(w, s, nil, nil)
	}
	if len(s.Outboxes) > 0 {
		if err := table(w, []string{"OUTBOX", "PUBLISHED", "BEHIND", "OLDEST", "PARKED", "RETAINED", "CURSOR"}, s.outboxRows(time.Now())); err != nil {
			return err
		}
	}
	if len(s.Outboxes) > 0 && len(s.Sinks) > 0 {
		fmt.Fprintln(w)
	}
	if len(s.Sinks) > 0 {
		if err := table(w, []string{"SINK", "KIND", "LAG", "DEAD LETTERS", "PROCESSES", "GROUP"}, s.sinkRows()); err != nil {
			return err
		}
	}
	var trouble []string
	for _, o := range s.Outboxes {
		if o.Error != "" {
			trouble = append(trouble, "outbox "+o.Name+": "+o.Error)
		} else if o.Retention.Delayed != "" {
			trouble = append(trouble, stays(o.Name, o.Retention))
		}
		if o.Pause != nil {
			trouble = append(trouble, clean("outbox "+o.Name+" "+pauseText(o.Pause.By, o.Pause.Since, o.Pause.Reason)))
		}
	}
	for _, k := range s.Sinks {
		if k.Error != "" {
			trouble = append(trouble, "sink "+k.Name+": "+k.Error)
		}
	}
	if len(trouble) > 0 {
		fmt.Fprintf(w, "\n%s\n", strings.Join(trouble, "\n"))
	}
	return nil
}

func (s *statusAnswer) outboxRows(now time.Time) [][]string {
	var rows [][]string
	for _, o := range s.Outboxes {
		if o.Error != "" {
			rows = append(rows, []string{o.Name, "?", "?", "?", "?", "?", "?"})
			continue
		}
		cursor := "not begun"
		if !o.CursorTime.IsZero() {
			cursor = ago(o.CursorTime, now) + " ago"
		}
		rows = append(rows, []string{o.Name, number(o.Seq), number(o.Behind), ago(o.Oldest, now), number(o.Parked), retained(o.Retention, now), cursor})
	}
	return rows
}

// retained is how much the outbox table holds and since when: "1.2 GiB, 6d".
func retained(r relay.RetentionStatus, now time.Time) string {
	switch {
	case r.Measured.IsZero():
		return "-"
	case r.Since.IsZero():
		return byteText(r.Bytes)
	}
	return byteText(r.Bytes) + ", " + ago(r.Since, now)
}

// stays says why rows stay in an outbox for longer than they should.
func stays(name string, r relay.RetentionStatus) string {
	return "outbox " + name + ": rows stay longer than configured: " + oneLine(errors.New(r.Delayed))
}

// byteText is a size for a person: 812 B, 1.2 GiB.
func byteText(n int64) string {
	size, unit := float64(n), ""
	for _, next := range []string{"Ki", "Mi", "Gi", "Ti"} {
		if size < 1024 {
			break
		}
		size, unit = size/1024, next
	}
	if unit == "" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %sB", size, unit)
}

func (s *statusAnswer) sinkRows() [][]string {
	var rows [][]string
	for _, k := range s.Sinks {
		if k.Error != "" {
			rows = append(rows, []string{k.Name, k.Kind, "?", "?", "?", "?"})
			continue
		}
		rows = append(rows, []string{k.Name, k.Kind, number(k.Lag), number(k.Letters), strconv.Itoa(k.Members), groupText(k.State)})
	}
	return rows
}

// groupText is Kafka's state of a group in words.
func groupText(state string) string {
	switch state {
	case "Stable":
		return "running"
	case "Empty":
		return "stopped"
	case "Dead", "":
		return "not begun"
	case "PreparingRebalance", "CompletingRebalance":
		return "rebalancing"
	}
	return state
}

func (s *statusAnswer) failed() error {
	for _, o := range s.Outboxes {
		if o.Error != "" {
			return errQuiet
		}
	}
	for _, k := range s.Sinks {
		if k.Error != "" {
			return errQuiet
		}
	}
	return nil
}

func (at where) text(err error) string {
	if err == nil {
		return ""
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == undefinedTable || pg.Code == undefinedSchema) {
		return "its tables are missing: run millrace migrate up"
	}
	if errors.As(err, &pg) && pg.Code == lockNotAvailable {
		return "a session holds a lock on its tables: /readyz of the relay that leads names it, and pg_locks shows it. " + oneLine(err)
	}
	return oneLine(at.explain(err))
}

// What Postgres says of tables that were never made, and of locks that were not given in time.
const (
	undefinedTable   = "42P01"
	undefinedSchema  = "3F000"
	lockNotAvailable = "55P03"
)

// number shows a count with its thousands apart.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
