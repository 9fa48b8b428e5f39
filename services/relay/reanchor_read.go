package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

const (
	// readSlack is how much earlier than the first retained event occurred the topics are read: clocks differ, and writers
	// may date an event ahead a little.
	readSlack = 24 * time.Hour
	// horizonSlack is how much later than the earliest record of a topic an event may have occurred whose record is gone:
	// records are not quite in the order of their times.
	horizonSlack = time.Hour
	// copyRows is how many events are copied to Postgres at once.
	copyRows = 5000
)

// settledEnds returns the high watermarks of now, once every transaction below them has ended. What others have open later
// is not waited for.
func settledEnds(ctx context.Context, admin *kadm.Client, names []string) (kadm.ListedOffsets, error) {
	high, err := admin.ListEndOffsets(ctx, names...)
	if err == nil {
		err = high.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the last offsets of %v: %w", names, err)
	}
	pause := backoff{min: 2 * time.Millisecond, max: 100 * time.Millisecond}
	for attempt := 0; ; attempt++ {
		stable, err := committedEnds(ctx, admin, names)
		if err != nil {
			return nil, err
		}
		if reached(stable, high) {
			return high, nil
		}
		if err := pause.wait(ctx, attempt); err != nil {
			return nil, fmt.Errorf("wait for open transactions on %v to end: %w", names, err)
		}
	}
}

// readTopics copies the event ids of everything that may be a retained row's record to the anchor.
func (a *reanchoring) readTopics(ctx context.Context) error {
	kept, err := a.anchor.Retained(ctx)
	if err != nil {
		return err
	}
	a.maxRow = max(a.cursor.Row, a.cursor.Position)
	names, err := a.eventTopics(ctx)
	if err != nil {
		return err
	}
	in := &intake{a: a, ctx: ctx}
	if len(names) > 0 {
		if err := a.readEvents(ctx, in, names, a.readFrom(kept)); err != nil {
			return err
		}
	}
	if err := a.readHeld(ctx, in); err != nil {
		return err
	}
	if err := in.flush(); err != nil {
		return err
	}
	return a.anchor.Index(ctx)
}

// readFrom is the time from which on a retained row's record can have been written; zero for the beginning.
func (a *reanchoring) readFrom(kept store.Retained) time.Time {
	if kept.Dated || kept.Earliest.IsZero() && a.opts.Since.IsZero() {
		return time.Time{}
	}
	from := kept.Earliest
	if since := a.opts.Since; from.IsZero() || !since.IsZero() && since.Before(from) {
		from = since
	}
	return from.Add(-readSlack)
}

// eventTopics are those that were published to, and the configured ones that exist.
func (a *reanchoring) eventTopics(ctx context.Context) ([]string, error) {
	configured, err := (&session{cfg: a.cfg, topics: a.topics}).existing(ctx)
	if err != nil {
		return nil, err
	}
	all := slices.AppendSeq(configured, maps.Keys(a.cursor.Partitions))
	slices.Sort(all)
	return slices.Compact(all), nil
}

func (a *reanchoring) readEvents(ctx context.Context, in *intake, names []string, from time.Time) error {
	logs, err := a.openEvents(ctx, names, from)
	if err != nil {
		return err
	}
	done, total := int64(0), int64(0)
	for _, l := range logs {
		total += l.end - l.start
	}
	a.opts.Progress(Progressed{Step: StepRead, Total: total})
	for _, l := range logs {
		err := l.scan(ctx, l.start, func(r *kgo.Record) bool {
			if r.Offset%10_000 == 0 {
				a.opts.Progress(Progressed{StepRead, done + r.Offset - l.start, total})
			}
			return in.record(r)
		})
		if err := errors.Join(in.err, err); err != nil {
			return err
		}
		done += l.end - l.start
	}
	a.opts.Progress(Progressed{StepRead, total, total})
	for _, name := range names {
		seq, err := a.topics.highestSeq(ctx, name)
		if err != nil {
			return err
		}
		a.maxSeq = max(a.maxSeq, seq)
	}
	return nil
}

// openEvents opens the partitions from the first record of that time on, and tells the anchor how far topics reach back.
func (a *reanchoring) openEvents(ctx context.Context, names []string, from time.Time) ([]*partitionLog, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	byTopic, err := openLogs(ctx, a.client, settledEnds, names...)
	if err != nil {
		return nil, err
	}
	earliest, err := a.offsetsAfter(ctx, 0, names)
	if err != nil {
		return nil, err
	}
	if err := a.horizons(ctx, byTopic, earliest); err != nil {
		return nil, err
	}
	var first kadm.ListedOffsets
	if !from.IsZero() && from.UnixMilli() > 0 {
		if first, err = a.offsetsAfter(ctx, from.UnixMilli(), names); err != nil {
			return nil, err
		}
		a.out.ReadFrom = from
	}
	var all []*partitionLog
	for _, name := range names {
		for _, l := range byTopic[name] {
			if at, ok := first.Lookup(name, l.partition); ok {
				l.start = min(max(l.start, at.Offset), l.end)
			}
			all = append(all, l)
		}
	}
	return all, nil
}

func (a *reanchoring) offsetsAfter(ctx context.Context, millis int64, names []string) (kadm.ListedOffsets, error) {
	at, err := a.topics.admin.ListOffsetsAfterMilli(ctx, millis, names...)
	if err == nil {
		err = at.Error()
	}
	return at, wrap(err, fmt.Sprintf("list the offsets of %v by time", names))
}

// horizons tells the anchor which topics have forgotten records, and of which time: a compacted one of any.
func (a *reanchoring) horizons(ctx context.Context, logs map[string][]*partitionLog, earliest kadm.ListedOffsets) error {
	described, err := a.topics.admin.DescribeTopicConfigs(ctx, slices.Collect(maps.Keys(logs))...)
	if err != nil {
		return fmt.Errorf("read the configs of the events topics: %w", err)
	}
	for name, partitions := range logs {
		forgets, before := compacts(described, name), time.Time{}
		for _, l := range partitions {
			if l.start == 0 || forgets {
				continue
			}
			at, ok := earliest.Lookup(name, l.partition)
			if !ok || at.Timestamp <= 0 { // nothing is left
				forgets = true
				continue
			}
			if t := time.UnixMilli(at.Timestamp).Add(horizonSlack); t.After(before) {
				before = t
			}
		}
		if forgets {
			before = time.Time{}
		} else if before.IsZero() {
			continue
		}
		if err := a.anchor.AddHorizon(ctx, name, before); err != nil {
			return err
		}
	}
	return nil
}

func compacts(described kadm.ResourceConfigs, topic string) bool {
	resource, err := described.On(topic, nil)
	if err != nil || resource.Err != nil {
		return false
	}
	return slices.ContainsFunc(resource.Configs, func(c kadm.Config) bool {
		return c.Key == "cleanup.policy" && strings.Contains(c.MaybeValue(), "compact")
	})
}

// readHeld copies what is, or was, on the parked topic. An event that is not held any more was released or discarded.
func (a *reanchoring) readHeld(ctx context.Context, in *intake) error {
	name := parkedTopic(a.cfg.Outbox)
	logs, err := openLogs(ctx, a.client, settledEnds, name)
	if err != nil {
		return err
	}
	rows := map[uuid.UUID]*Parked{}
	err = scanParked(ctx, logs[name], func(r *kgo.Record, p *Parked) {
		if p != nil {
			rows[p.EventID] = &Parked{Topic: p.Topic, Key: p.Key, Row: p.Row, OccurredAt: p.OccurredAt}
		} else if id, err := uuid.ParseBytes(r.Key); err == nil {
			delete(rows, id)
		}
	})
	if err != nil {
		return err
	}
	for _, p := range rows {
		a.maxRow = max(a.maxRow, p.Row)
	}
	for _, l := range logs[name] {
		if err := errors.Join(l.scan(ctx, l.start, func(r *kgo.Record) bool { return in.held(r, rows) }), in.err); err != nil {
			return err
		}
	}
	return nil
}

// intake collects events for the anchor.
type intake struct {
	a    *reanchoring
	ctx  context.Context
	rows []store.Published
	err  error
}

func (in *intake) add(p store.Published) bool {
	in.rows = append(in.rows, p)
	if len(in.rows) >= copyRows {
		in.err = in.flush()
	}
	return in.err == nil
}

func (in *intake) flush() error {
	rows := in.rows
	in.rows = in.rows[:0]
	if len(rows) == 0 {
		return nil
	}
	return in.a.anchor.Add(in.ctx, rows)
}

// record takes a record of an events topic. Whatever bears an event's id counts as that event; only what a relay of this
// outbox wrote can be lost.
func (in *intake) record(r *kgo.Record) bool {
	in.a.out.Records++
	p := store.Published{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Seq: seqOf(r), At: r.Timestamp, Own: true}
	known := false
	for _, h := range r.Headers {
		switch h.Key {
		case headerID:
			id, err := uuid.ParseBytes(h.Value)
			p.EventID, known = id, err == nil
		case headerSource:
			p.Own = string(h.Value) == in.a.cfg.Source
		case headerTime:
			if t, err := time.Parse(time.RFC3339Nano, string(h.Value)); err == nil {
				p.At = t
			}
		}
	}
	p.Own = p.Own && p.Seq > 0
	in.a.maxSeq = max(in.a.maxSeq, p.Seq)
	if !known || !p.Own {
		in.a.out.Foreign++
	}
	if !known {
		return true
	}
	return in.add(p)
}

// held takes a record of the parked topic; of those of one event the last says whether it is still held.
func (in *intake) held(r *kgo.Record, rows map[uuid.UUID]*Parked) bool {
	id, err := uuid.ParseBytes(r.Key)
	if err != nil {
		return true
	}
	p := store.Published{EventID: id, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, At: r.Timestamp, Held: true}
	if now := rows[id]; now != nil && len(r.Value) > 0 {
		p.Topic, p.Key, p.Row, p.At, p.Own = now.Topic, []byte(now.Key), now.Row, now.OccurredAt, true
		delete(rows, id) // listed once
	}
	return in.add(p)
}
