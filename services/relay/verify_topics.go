package relay

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readTopics goes through the records that can be those of retained rows.
func (v *verification) readTopics(ctx context.Context) error {
	names := v.topics()
	if len(names) == 0 {
		return nil
	}
	byTopic, err := openLogs(ctx, v.client, settledSoon, names...)
	if err != nil {
		return err
	}
	if err := v.skip(ctx, names, byTopic); err != nil {
		return err
	}
	for _, name := range names {
		if v.compacts[name] {
			continue
		}
		for _, l := range byTopic[name] {
			v.total += l.end - l.start
		}
	}
	for _, name := range names {
		if v.compacts[name] {
			continue
		}
		for _, l := range byTopic[name] {
			if err := v.readPartition(ctx, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// skip moves the beginnings of the logs to the first record that a retained row can have: the record of a row is dated by when it occurred or,
// where the brokers would not take that, by when it was published.
func (v *verification) skip(ctx context.Context, names []string, logs map[string][]*partitionLog) error {
	from := min(v.earliest, v.entered)
	if from <= 0 { // it may be the first
		return nil
	}
	at, err := kadm.NewClient(v.client).ListOffsetsAfterMilli(ctx, from-time.Minute.Milliseconds(), names...)
	if err == nil {
		err = at.Error()
	}
	if err != nil {
		return wrap(err, fmt.Sprintf("list the offsets of %v by time", names))
	}
	for _, partitions := range logs {
		for _, l := range partitions {
			if o, ok := at.Lookup(l.topic, l.partition); ok {
				l.start = min(max(l.start, o.Offset), l.end)
			}
		}
	}
	return nil
}

func (v *verification) readPartition(ctx context.Context, l *partitionLog) error {
	at, phase := partitionAt{l.topic, l.partition}, l.topic+"/"+strconv.Itoa(int(l.partition))
	if v.dig == nil && l.end > l.start {
		p := v.count(at)
		p.From, p.End = l.start, l.end
	}
	highest := int64(0)
	var f found
	err := l.scan(ctx, l.start, func(r *kgo.Record) bool {
		v.lookAtRecord(ctx, r, &f)
		behind := false
		if f.seq > 0 && !f.replayed {
			// Promise 2: versions grow with the offsets.
			behind = f.seq <= highest
			highest = max(highest, f.seq)
		}
		v.record(at, &f, behind)
		if r.Offset%10_000 == 0 {
			v.tell(phase, r.Offset-l.start)
		}
		return ctx.Err() == nil
	})
	v.done += l.end - l.start
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// record takes one record. behind says that one of a higher version came before.
func (v *verification) record(at partitionAt, f *found, behind bool) {
	first := v.dig == nil
	switch {
	case f.replayed:
		v.out.Replayed += one64(first)
	case f.seq > v.cursor.Seq:
		v.out.Later += one64(first)
	case !v.sampled(f.key), v.held.moving[f.id], f.dated < v.horizon(at):
	case f.dated < v.edge && !v.edged[f.id]:
		v.out.BeyondOutbox += one64(first)
	case !f.known || f.seq == 0:
		if first {
			v.foreign(f)
		}
	case behind && v.repeats():
		if v.out.Repeats += one64(first); first && len(v.out.RepeatedAt) < v.opts.Examples {
			v.out.RepeatedAt = append(v.out.RepeatedAt, f.topic+"/"+f.where())
		}
		if !first && v.dig.wants(f.id) {
			v.dig.record(f, behind)
		}
	case first:
		v.sums.record(&f.look, behind)
		v.order.record(f.id, f.seq)
		v.count(at).Records++
	case v.dig.wants(f.id):
		v.dig.record(f, behind)
	}
}

// repeats says whether the outbox was ever delivered at least once: then a record of a version that came before is one sent again.
func (v *verification) repeats() bool { return v.cursor.Epoch > 0 }

func (v *verification) horizon(at partitionAt) int64 {
	if h, forgets := v.horizons[at]; forgets {
		return h
	}
	return math.MinInt64
}

func (f *found) where() string {
	return strconv.Itoa(int(f.partition)) + "/" + strconv.FormatInt(f.offset, 10)
}

// foreign is a record that no relay wrote.
func (v *verification) foreign(f *found) {
	detail := "it has no event id (ce_id)"
	if f.known {
		detail = "it has no version (millrace-seq)"
	}
	id := uuid.Nil
	if f.known {
		id = f.id
	}
	v.differs(DifferentEvent{Kind: Foreign, Topic: f.topic, Key: lineKey(string(f.key)), EventID: id, Offsets: []string{f.where()}, Since: time.UnixMilli(f.dated).UTC(), Detail: detail})
}
