package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/consumers/fold"
)

// head begins what comes before the log: where it does not reach back to the first event any more, what the generation that serves keeps.
func (j *Job) head(ctx context.Context, w *work) (err error) {
	b := j.rec.Rebuild
	if w.n != b.New || !b.SwappedAt.IsZero() {
		return nil
	}
	if w.feed.since, err = j.begins(ctx, b.Options); err != nil || w.feed.since != nil {
		return err
	}
	parts, err := j.missing(ctx, w)
	if err != nil || len(parts) == 0 {
		return err
	}
	rec := j.rec
	w.head = begin(ctx, func(ctx context.Context) error { return j.fromBronze(ctx, w, rec) })
	return nil
}

// missing are the partitions of which the new generation lacks something that the log does not have, with where the log begins.
func (j *Job) missing(ctx context.Context, w *work) (map[consumers.TopicPartition]int64, error) {
	starts, err := j.starts(ctx)
	if err != nil {
		return nil, err
	}
	at, err := w.store.Sink().Positions(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(starts, func(tp consumers.TopicPartition, start int64) bool { return start == 0 || at[tp] >= start })
	return starts, nil
}

// fromBronze feeds the new generation from what the old one keeps, up to where the log begins. It begins later while that is read.
//
// Promise 8: a hole between what is kept and the log is refused, and not skipped.
func (j *Job) fromBronze(ctx context.Context, w *work, rec Record) (err error) {
	old, err := j.cfg.Host.Open(ctx, rec.Serving, rec.Generations[rec.Serving], false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	keeper, keeps := old.Sink().(fold.EventKeeper)
	for {
		missing, err := j.missing(ctx, w)
		if err != nil || len(missing) == 0 {
			return err
		}
		at, err := old.Sink().Positions(ctx)
		if err != nil {
			return err
		}
		for _, tp := range slices.SortedFunc(maps.Keys(missing), func(a, b consumers.TopicPartition) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		}) {
			if err := reaches(tp, missing[tp], at[tp], keeps); err != nil {
				return err
			}
			h := &headOf{j: j, w: w, keeper: keeper, tp: tp, until: missing[tp]}
			if err := h.run(ctx); err != nil {
				return fmt.Errorf("read what generation %d keeps of %s/%d: %w", rec.Serving, tp.Topic, tp.Partition, err)
			}
		}
	}
}

// headOf is a partition that is fed from what is kept.
type headOf struct {
	j      *Job
	w      *work
	keeper fold.EventKeeper
	tp     consumers.TopicPartition
	until  int64

	gate  *gate
	dec   *consumers.Decoder
	batch consumers.Batch
	bytes int
	// aside are the events below until that wait on the dead-letter topic, in order: they are not among those that are kept.
	aside []*kgo.Record
	last  int64 // the offset of the last event
}

func (h *headOf) run(ctx context.Context) (err error) {
	h.gate = &gate{h.w.feed.fold, h.w.feed}
	c := h.w.feed.cfg.Consumer
	if h.dec, err = consumers.NewDecoder(consumers.DecoderConfig{
		Registry: c.Registry, Catalogue: c.Catalogue, MaxValue: c.MaxValue, UnknownGrace: c.UnknownGrace, Reads: h.gate.Reads}); err != nil {
		return err
	}
	next, err := h.gate.Claim(ctx, h.tp)
	if err != nil {
		return err
	}
	defer h.gate.Release(context.WithoutCancel(ctx), h.tp)
	from := max(next, 0)
	if err := h.readAside(ctx, from); err != nil {
		return err
	}
	h.batch, h.last = consumers.Batch{TopicPartition: h.tp, From: from}, from-1
	if err := h.keeper.Records(ctx, h.tp, from, h.until, func(r *kgo.Record) error { return h.take(ctx, r) }); err != nil {
		return err
	}
	if err := h.takeAside(ctx, h.until); err != nil {
		return err
	}
	return h.flush(ctx, h.until) // what stood between the last event and the beginning of the log were markers
}

// maxAside bounds the events of a partition that were put aside and are held in memory, in bytes of keys and values. Their number is bounded by maxDecisions.
const maxAside = 256 << 20

// asides are events that were put aside, by offset.
type asides struct {
	records map[int64]*kgo.Record
	bytes   int
}

// add keeps an event, once however often it is on the dead-letter topic.
func (a *asides) add(offset int64, r *kgo.Record) error {
	a.bytes += len(r.Key) + len(r.Value)
	if former := a.records[offset]; former != nil {
		a.bytes -= len(former.Key) + len(former.Value)
	}
	if a.bytes > maxAside {
		return consumers.AsSystemic(fmt.Errorf("more than %d MiB of its dead letters wait: redrive or discard them first (millrace dlq list)", maxAside>>20))
	}
	a.records[offset] = r
	return nil
}

// readAside reads the events that were put aside and wait.
func (h *headOf) readAside(ctx context.Context, from int64) error {
	found := asides{records: map[int64]*kgo.Record{}}
	err := consumers.ScanLetters(ctx, h.j.cfg.Kafka, h.j.cfg.Sink, func(l consumers.Letter) error {
		if l.TopicPartition == h.tp && l.Offset >= from && l.Offset < h.until && h.w.decided.fate(h.tp, l.Offset) == dlq.FatePending {
			return found.add(l.Offset, l.Record)
		}
		return nil
	})
	for _, offset := range slices.Sorted(maps.Keys(found.records)) {
		r := *found.records[offset]
		r.Topic, r.Partition, r.Offset = h.tp.Topic, h.tp.Partition, offset
		h.aside = append(h.aside, &r)
	}
	return err
}

// takeAside takes the events below an offset that were put aside.
func (h *headOf) takeAside(ctx context.Context, below int64) error {
	for len(h.aside) > 0 && h.aside[0].Offset < below {
		r := h.aside[0]
		h.aside = h.aside[1:]
		if err := h.add(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// take takes an event that is kept.
func (h *headOf) take(ctx context.Context, r *kgo.Record) error {
	if err := h.takeAside(ctx, r.Offset); err != nil {
		return err
	}
	return h.add(ctx, r)
}

func (h *headOf) add(ctx context.Context, r *kgo.Record) error {
	if r.Offset <= h.last {
		return nil // it is kept twice
	}
	h.last = r.Offset
	ev, err := h.dec.Decode(ctx, r)
	if err != nil {
		return fmt.Errorf("decode offset %d: %w", r.Offset, err)
	}
	h.batch.Events = append(h.batch.Events, ev)
	h.bytes += len(r.Key) + len(r.Value)
	if c := h.w.feed.cfg.Consumer.WithDefaults(); len(h.batch.Events) >= c.BatchEvents || h.bytes >= c.BatchBytes {
		return h.flush(ctx, r.Offset+1)
	}
	return nil
}

// flush applies what was taken.
func (h *headOf) flush(ctx context.Context, next int64) error {
	if next <= h.batch.From {
		return nil
	}
	h.batch.Next = next
	if err := h.gate.Process(ctx, h.batch); err != nil {
		return err
	}
	h.batch, h.bytes = consumers.Batch{TopicPartition: h.tp, From: next}, 0
	return nil
}
