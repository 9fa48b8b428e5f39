package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/services/sink"
)

// traced is what `trace` shows.
type traced struct {
	Key     string         `json:"key,omitempty"`
	EventID string         `json:"event_id,omitempty"`
	Rows    []tracedRow    `json:"outbox"`
	Records []tracedRecord `json:"topics"`
	// Earlier counts records of the key that are on its topics and not shown: the newest are.
	Earlier int64         `json:"earlier_records,omitempty"`
	Sinks   []*tracedSink `json:"sinks"`
	// Away are stages that could not be asked, and why.
	Away map[string]string `json:"away,omitempty"`
}

type tracedRow struct {
	Outbox string `json:"outbox"`
	relay.TracedRow
}

type tracedRecord struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Seq       int64     `json:"seq,omitempty"`
	EventID   string    `json:"event_id,omitempty"`
	Type      string    `json:"type,omitempty"`
	Key       string    `json:"key"`
	At        time.Time `json:"at"`
	// LogAppend says that At is when the broker took it; otherwise it is when the event occurred.
	LogAppend bool `json:"log_append,omitempty"`
}

type tracedSink struct {
	Name   string          `json:"name"`
	States []sink.KeyState `json:"states"`
	// Positions are the offsets that are applied next.
	Positions []sink.Applied `json:"positions"`
	Letters   []tracedLetter `json:"dead_letters,omitempty"`
	topics    []string
}

type tracedLetter struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Class     string    `json:"class"`
	Reason    string    `json:"reason"`
	At        time.Time `json:"at"`
	Pending   bool      `json:"pending"`
}

// tracing is what `trace` was asked for.
type tracing struct {
	url     string
	limit   int
	timeout time.Duration

	config *Config
	kafka  []kgo.Opt
	adm    *kadm.Client
	id     uuid.UUID
	out    *traced
	tell   func(string)
}

func newTrace(a *app) *cobra.Command {
	var t tracing
	cmd := &cobra.Command{
		Use:   "trace EVENT_ID|KEY",
		Short: "Follow one event, or one key, through every stage",
		Long: `Follow one event, or the newest events of one key, through every stage: the row
of the outbox with its transaction, and whether it is published, waits or is
parked; topic, partition, offset and version; for each sink its position, what
it holds of the key and at which version, and dead letters; with times and the
delay from when the event occurred.

A stage that is away is named, and the others are shown. An event whose row is
not retained any more is looked for on all topics, which takes as long as
reading them.

Exit status 1 if nothing is found.`,
		Example: "  millrace trace 0199b7a1-6a3e-7c1c-9d3c-1f2e3d4c5b6a\n  millrace trace o-17 -o json",
		Args:    takes("EVENT_ID|KEY"),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&t.url, "url", "", "`URL` where the sinks' process serves HTTP (default: http.listen)")
	cmd.Flags().IntVar(&t.limit, "limit", 10, "show the newest `N` events of a key")
	cmd.Flags().DurationVar(&t.timeout, "timeout", 5*time.Minute, "how long to look")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if t.limit <= 0 || t.timeout <= 0 {
			return usagef("--limit and --timeout are above 0")
		}
		c, err := a.load()
		if err != nil {
			return err
		}
		if t.kafka, err = c.Kafka.options(); err != nil {
			return err
		}
		if t.adm, err = c.admin(); err != nil {
			return err
		}
		defer t.adm.Close()
		t.config, t.url = c, cmp.Or(t.url, "http://"+c.HTTP.Listen)
		t.out = &traced{Rows: []tracedRow{}, Records: []tracedRecord{}, Sinks: []*tracedSink{}, Away: map[string]string{}}
		if id, err := uuid.Parse(got[0]); err == nil {
			t.id, t.out.EventID = id, id.String()
		} else {
			t.out.Key = got[0]
		}
		began, said := time.Now(), time.Now()
		t.tell = func(what string) {
			if time.Since(said) >= quietFor {
				said = time.Now()
				fmt.Fprintf(cmd.ErrOrStderr(), "tracing for %s: %s\n", short(time.Since(began).Round(time.Second)), clean(what))
			}
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), t.timeout)
		defer cancel()
		if err := t.run(ctx); err != nil {
			return err
		}
		if err := t.out.print(cmd.OutOrStdout(), cmd.ErrOrStderr(), out); err != nil {
			return err
		}
		return t.out.verdict(cmd.ErrOrStderr(), got[0])
	}
	return cmd
}

func (t *tracing) run(ctx context.Context) error {
	t.outboxes(ctx)
	topics, err := t.topics(ctx)
	if err == nil {
		err = t.records(ctx, topics)
	}
	if err != nil {
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return ctx.Err()
		}
		t.away("topics", err)
	}
	if t.out.Key == "" { // an event: its key is known from where it was found
		for _, r := range t.out.Rows {
			t.out.Key = r.Key
		}
		for _, r := range t.out.Records {
			t.out.Key = r.Key
		}
	}
	return t.sinks(ctx)
}

func (t *tracing) away(stage string, err error) { t.out.Away[stage] = oneLine(explain(err)) }

// outboxes looks for rows.
func (t *tracing) outboxes(ctx context.Context) {
	for _, name := range sorted(t.config.Outboxes) {
		t.tell("outbox " + name)
		cfg := t.config.Outboxes[name].Config
		cfg.Kafka, cfg.Outbox = t.kafka, name
		rows, err := relay.TraceRows(ctx, cfg, t.id, t.out.Key, t.limit)
		slices.Reverse(rows) // as they were written, and as the topics have them
		for _, r := range rows {
			t.out.Rows = append(t.out.Rows, tracedRow{name, r})
		}
		if err != nil {
			t.out.Away["outbox "+name] = outboxAt(name).text(err)
		}
	}
}

// topics are those to look at: the rows' own, or all that an outbox publishes to or a sink follows.
func (t *tracing) topics(ctx context.Context) ([]string, error) {
	var out []string
	for _, r := range t.out.Rows {
		out = append(out, r.Topic)
	}
	_, projections, err := t.config.declarations()
	if err != nil {
		return nil, err
	}
	all := []string{}
	for _, name := range sorted(t.config.Sinks) {
		_, topics, err := t.config.Sinks[name].Resolve(projections)
		if err != nil {
			return nil, t.config.sinkError(name, err)
		}
		t.out.Sinks = append(t.out.Sinks, &tracedSink{Name: name, States: []sink.KeyState{}, Positions: []sink.Applied{}, topics: topics})
		all = append(all, topics...)
	}
	if t.id == uuid.Nil || len(out) == 0 {
		for _, o := range t.config.Outboxes {
			out = append(out, sorted(o.Topics)...)
		}
		out = append(out, all...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	there, err := t.adm.ListTopics(ctx, out...)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out, func(topic string) bool { return there[topic].Err != nil }), nil
}

// records looks for records on topics, first where the key belongs.
func (t *tracing) records(ctx context.Context, topics []string) error {
	for _, topic := range topics {
		lags, err := consumers.Lags(ctx, t.adm, nil, topic)
		if err != nil {
			return err
		}
		key := t.out.Key
		for _, r := range t.out.Rows {
			if r.Topic == topic {
				key = r.Key
			}
		}
		if n := int32(len(lags)); key != "" && n > 1 {
			home := compare.PartitionOf(key, n)
			slices.SortStableFunc(lags, func(a, b consumers.Lag) int { return cmp.Compare(b2i(a.Partition != home), b2i(b.Partition != home)) })
		}
		found := false
		for _, l := range lags {
			if found {
				break
			}
			if found, err = t.partition(ctx, l); err != nil {
				return err
			}
		}
		if found && t.id != uuid.Nil {
			return nil
		}
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// errTraced ends the reading of a partition.
var errTraced = errors.New("found")

// partition looks for the event, or for those of the key, in one partition.
func (t *tracing) partition(ctx context.Context, l consumers.Lag) (found bool, err error) {
	what := fmt.Sprintf("reading %s/%d", l.Topic, l.Partition)
	err = consumers.ReadPartition(ctx, t.kafka, l.TopicPartition, t.begin(ctx, l), l.End, func(rec *kgo.Record) error {
		t.tell(what)
		r := recordOf(rec)
		switch {
		case t.id != uuid.Nil && r.EventID != t.out.EventID, t.id == uuid.Nil && r.Key != t.out.Key:
			return nil
		}
		found = true
		t.out.Records = append(t.out.Records, r)
		if t.id != uuid.Nil {
			return errTraced
		}
		if len(t.out.Records) > t.limit {
			t.out.Records = slices.Delete(t.out.Records, 0, 1)
			t.out.Earlier++
		}
		return nil
	})
	if errors.Is(err, errTraced) {
		err = nil
	}
	return found, err
}

// begin is where to begin to read: the record of a row is dated by when it occurred, or later.
func (t *tracing) begin(ctx context.Context, l consumers.Lag) int64 {
	for _, r := range t.out.Rows {
		if t.id == uuid.Nil || r.Topic != l.Topic {
			continue
		}
		at, err := t.adm.ListOffsetsAfterMilli(ctx, r.OccurredAt.Add(-time.Minute).UnixMilli(), l.Topic)
		if o, ok := at.Lookup(l.Topic, l.Partition); err == nil && ok && o.Err == nil && o.Offset > l.Start {
			return min(o.Offset, l.End)
		}
	}
	return l.Start
}

func recordOf(rec *kgo.Record) tracedRecord {
	r := tracedRecord{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Key: string(rec.Key), At: rec.Timestamp.UTC(), LogAppend: rec.Attrs.TimestampType() == 1}
	for _, h := range rec.Headers {
		switch h.Key {
		case "ce_id":
			r.EventID = string(h.Value)
		case "ce_type":
			r.Type = string(h.Value)
		case "millrace-seq":
			r.Seq, _ = strconv.ParseInt(string(h.Value), 10, 64)
		}
	}
	return r
}

// sinks asks each sink for the key, and looks for dead letters.
func (t *tracing) sinks(ctx context.Context) error {
	for _, s := range t.out.Sinks {
		t.tell("sink " + s.Name)
		if err := t.letters(ctx, s); err != nil {
			t.away("dead letters of "+s.Name, err)
		}
		if t.out.Key == "" || t.config.Sinks[s.Name].Role() == sink.Webhook {
			t.offsets(ctx, s)
			continue
		}
		var got sink.KeyStates
		err := (&remote{url: t.url, sink: s.Name}).call(ctx, statusTimeout, "GET", "/state?key="+url.QueryEscape(t.out.Key), nil, &got)
		if err != nil {
			t.away("sink "+s.Name, err)
			t.offsets(ctx, s)
			continue
		}
		s.States, s.Positions = got.States, got.Positions
	}
	return nil
}

// offsets takes the positions that the group repeats, where the sink's process is not asked.
func (t *tracing) offsets(ctx context.Context, s *tracedSink) {
	of, err := servingGroup(ctx, t.kafka, s.Name)
	if err != nil {
		return
	}
	committed, err := t.adm.FetchOffsetsForTopics(ctx, of, s.topics...)
	if err != nil {
		return
	}
	committed.Each(func(o kadm.OffsetResponse) {
		if o.Err == nil && o.At >= 0 {
			s.Positions = append(s.Positions, sink.Applied{Topic: o.Topic, Partition: o.Partition, Offset: o.At})
		}
	})
}

func (t *tracing) letters(ctx context.Context, s *tracedSink) error {
	return dlq.New(s.Name, t.kafka...).List(ctx, dlq.Filter{Settled: true}, func(e dlq.Entry) error {
		if t.id != uuid.Nil && e.ID != t.out.EventID || t.id == uuid.Nil && e.Key != t.out.Key {
			return nil
		}
		s.Letters = append(s.Letters, tracedLetter{e.Topic, e.Partition, e.Offset, e.Class, e.Reason, e.At, e.Pending})
		return nil
	})
}
