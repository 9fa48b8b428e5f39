package verify

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Bronze compares the events that a sink keeps of a partition with the partition.
type Bronze struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Expected counts the partition's events that the sink should keep; Events the rows, Offsets different offsets among them. Where events were given up, or applied
	// later, as the dead letters tell, Expected counts all that may be there.
	Expected int64 `json:"expected"`
	Events   int64 `json:"events"`
	Offsets  int64 `json:"offsets"`
	// Missing, Doubled and Unexpected count offsets; Examples are the first of them.
	Missing    int64         `json:"missing"`
	Doubled    int64         `json:"doubled"`
	Unexpected int64         `json:"unexpected"`
	Examples   []BronzeEvent `json:"examples,omitempty"`
}

// BronzeEvent is an offset that is not there once.
type BronzeEvent struct {
	Offset int64  `json:"offset"`
	Kind   string `json:"kind"` // missing, doubled or unexpected
}

func (b *Bronze) differences() int64 { return b.Missing + b.Doubled + b.Unexpected }

// events compares the events that are kept of a partition with the offsets that were read of it.
func (t *topicRun) events(ctx context.Context, tp consumers.TopicPartition, at int64, seen *offsets) error {
	if !t.comparesEvents() {
		return nil
	}
	kept := t.kept[tp]
	pending, settled := t.letters.pending[tp], t.letters.settled[tp]
	b := Bronze{Topic: tp.Topic, Partition: tp.Partition, Events: kept.Events, Offsets: kept.Offsets, Expected: seen.n - seen.among(pending)}
	whole := kept.Events == 0 || kept.First >= seen.from
	if whole && kept.Events == kept.Offsets && kept.Events == b.Expected && len(settled) == 0 {
		t.bronze = append(t.bronze, b)
		return nil
	}
	err := t.oneByOne(ctx, tp, at, seen, &b)
	if errors.Is(err, fold.ErrNoPayload) {
		err = nil
		if b.Doubled = kept.Events - kept.Offsets; whole && len(settled) == 0 {
			b.Missing, b.Unexpected = max(0, b.Expected-kept.Offsets), max(0, kept.Offsets-b.Expected)
		} else {
			t.note("%s/%d: its events are kept without their bytes and cannot be compared one by one", tp.Topic, tp.Partition)
		}
	}
	t.bronze = append(t.bronze, b)
	return err
}

// oneByOne compares offsets below the cut.
func (t *topicRun) oneByOne(ctx context.Context, tp consumers.TopicPartition, at int64, seen *offsets, b *Bronze) error {
	add := func(offset int64, kind string, n *int64) {
		if *n++; len(b.Examples) < t.opts.Examples {
			b.Examples = append(b.Examples, BronzeEvent{offset, kind})
		}
	}
	last, again := int64(-1), false
	b.Expected, b.Events, b.Offsets = seen.below(at)-seen.among(t.letters.pending[tp]), 0, 0
	err := t.cfg.Store.(fold.EventKeeper).Records(ctx, tp, seen.from, at, func(rec *kgo.Record) error {
		b.Events++
		switch {
		case rec.Offset == last && !again:
			again = true
			add(rec.Offset, "doubled", &b.Doubled)
		case rec.Offset == last:
		case !seen.has(rec.Offset):
			add(rec.Offset, "unexpected", &b.Unexpected)
		}
		if rec.Offset != last {
			last, again = rec.Offset, false
			b.Offsets++
		}
		seen.drop(rec.Offset)
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("read the events kept of %s/%d: %w", tp.Topic, tp.Partition, err)
	}
	seen.each(at, func(offset int64) {
		if !t.letters.pending[tp][offset] && !t.letters.settled[tp][offset] {
			add(offset, "missing", &b.Missing)
		}
	})
	return nil
}

// offsets is a set of offsets, one bit each.
type offsets struct {
	from int64
	bits []uint64
	n    int64
}

func newOffsets(from int64) *offsets { return &offsets{from: from} }

func (o *offsets) add(offset int64) {
	i := offset - o.from
	for int64(len(o.bits)) <= i/64 {
		o.bits = append(o.bits, 0)
	}
	if o.bits[i/64]&(1<<(i%64)) == 0 {
		o.bits[i/64] |= 1 << (i % 64)
		o.n++
	}
}

func (o *offsets) has(offset int64) bool {
	i := offset - o.from
	return i >= 0 && i/64 < int64(len(o.bits)) && o.bits[i/64]&(1<<(i%64)) != 0
}

func (o *offsets) drop(offset int64) {
	if o.has(offset) {
		i := offset - o.from
		o.bits[i/64] &^= 1 << (i % 64)
	}
}

// among counts those of some offsets that are in the set: a letter may be of an event that the log does not have any more.
func (o *offsets) among(some map[int64]bool) (n int64) {
	for offset := range some {
		if o.has(offset) {
			n++
		}
	}
	return n
}

// below counts those below an offset.
func (o *offsets) below(at int64) (n int64) {
	o.each(at, func(int64) { n++ })
	return n
}

// each gives those below an offset to f, in order.
func (o *offsets) each(at int64, f func(int64)) {
	for w, word := range o.bits {
		for ; word != 0; word &= word - 1 {
			if offset := o.from + int64(w)*64 + int64(bits.TrailingZeros64(word)); offset < at {
				f(offset)
			}
		}
	}
}
