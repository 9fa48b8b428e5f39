package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/services/sink"
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

// statusTimeout bounds the look at one outbox or sink.
const statusTimeout = 15 * time.Second

func newStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far every outbox is published and every sink has come; exit status 1 if one cannot be told",
		Long: `Show how far every outbox is published and every sink has come.

It asks Postgres and Kafka, so it also answers when nothing of Millrace runs.`,
		Example: "  millrace status\n  millrace status -o json",
		Args:    args(cobra.NoArgs),
	}
	out := output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.load()
		if err != nil {
			return err
		}
		s, err := c.status(cmd.Context())
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

func (c *Config) status(ctx context.Context) (*statusAnswer, error) {
	s := &statusAnswer{Outboxes: []outboxStatus{}, Sinks: []sinkStatus{}}
	opts, err := c.Kafka.options()
	if err != nil {
		return nil, err
	}
	for _, name := range sorted(c.Outboxes) {
		cfg := c.Outboxes[name].Config
		cfg.Kafka = opts
		one, cancel := context.WithTimeout(ctx, statusTimeout)
		p, err := relay.Inspect(one, cfg)
		cancel()
		s.Outboxes = append(s.Outboxes, outboxStatus{Name: name, Progress: p, Error: text(err)})
	}
	adm, err := c.admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	details := c.details(ctx)
	_, projections, err := c.declarations()
	if err != nil {
		return nil, err
	}
	for _, name := range sorted(c.Sinks) {
		one, cancel := context.WithTimeout(ctx, statusTimeout)
		_, topics, _, err := c.Sinks[name].Resolve(projections)
		var row sinkStatus
		if err == nil {
			row, err = groupStatus(one, adm, name, topics)
		}
		cancel()
		row.Name, row.Kind, row.Error, row.Detail = name, c.Sinks[name].Kind, text(err), details["sink "+name]
		s.Sinks = append(s.Sinks, row)
	}
	return s, nil
}

// groupStatus asks Kafka about a sink's group. Positions live in the sink; the group repeats them for exactly this.
func groupStatus(ctx context.Context, adm *kadm.Client, name string, topics []string) (sinkStatus, error) {
	var row sinkStatus
	groups, err := adm.DescribeGroups(ctx, sink.Group(name))
	if err != nil {
		return row, fmt.Errorf("ask Kafka about group %s: %w", sink.Group(name), err)
	}
	row.State, row.Members = groups[sink.Group(name)].State, len(groups[sink.Group(name)].Members)
	if row.Lag, err = lag(ctx, adm, name, topics); err != nil {
		return row, fmt.Errorf("ask Kafka about the lag of %s: %w", name, err)
	}
	row.Letters, err = letters(ctx, adm, name)
	return row, err
}

// lag is what lies between the group's offsets and the ends of its topics, over all partitions.
func lag(ctx context.Context, adm *kadm.Client, name string, topics []string) (int64, error) {
	committed, err := adm.FetchOffsetsForTopics(ctx, sink.Group(name), topics...)
	if err != nil {
		return 0, err
	}
	positions := map[consumers.TopicPartition]int64{}
	committed.Each(func(o kadm.OffsetResponse) {
		positions[consumers.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o.At
	})
	lags, err := consumers.Lags(ctx, adm, positions, topics...)
	var n int64
	for _, l := range lags {
		n += l.Lag
	}
	return n, err
}

func letters(ctx context.Context, adm *kadm.Client, name string) (int64, error) {
	topic := sink.DeadLetterTopic(name)
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("ask Kafka about %s: %w", topic, err)
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("ask Kafka about %s: %w", topic, err)
	}
	var n int64
	ends.Each(func(o kadm.ListedOffset) {
		if start, ok := starts.Lookup(o.Topic, o.Partition); ok && o.Err == nil && start.Err == nil {
			n += o.Offset - start.Offset
		}
	})
	return n, nil
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
	now := time.Now()
	var rows [][]string
	for _, o := range s.Outboxes {
		if o.Error != "" {
			rows = append(rows, []string{o.Name, "?", "?", "?", "?", o.Error})
			continue
		}
		rows = append(rows, []string{o.Name, number(o.Seq), number(o.Behind), ago(o.Oldest, now), number(o.Parked), ago(o.CursorTime, now) + " ago"})
	}
	if err := table(w, []string{"OUTBOX", "PUBLISHED", "BEHIND", "OLDEST", "PARKED", "CURSOR"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows = nil
	for _, k := range s.Sinks {
		if k.Error != "" {
			rows = append(rows, []string{k.Name, k.Kind, "?", "?", "?", k.Error})
			continue
		}
		rows = append(rows, []string{k.Name, k.Kind, number(k.Lag), number(k.Letters), strconv.Itoa(k.Members), k.State})
	}
	return table(w, []string{"SINK", "KIND", "LAG", "DEAD LETTERS", "PROCESSES", "GROUP"}, rows)
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

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// number shows a count with its thousands apart.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
