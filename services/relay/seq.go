package relay

import (
	"context"
	"math"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// maxSeq is the highest millrace-seq believed. No relay comes near it, and a counter that ran over would be useless.
	maxSeq = math.MaxInt64 / 2
	// maxOthers is how many records without a millrace-seq, written by others, are looked behind in a partition.
	maxOthers = 100_000
)

// highestSeq returns the highest millrace-seq in a topic, whichever outbox wrote it; 0 if there is none. Sinks skip what is
// not above it.
func (t *topics) highestSeq(ctx context.Context, topic string) (int64, error) {
	logs, err := openLogs(ctx, t.client, committedEnds, topic)
	if err != nil {
		return 0, err
	}
	highest := int64(0)
	for _, l := range logs[topic] {
		seq, err := l.highestSeq(ctx)
		if err != nil {
			return 0, err
		}
		highest = max(highest, seq)
	}
	return highest, nil
}

// highestSeq reads a partition backwards, in growing steps, as far as the last record that has a millrace-seq: it grows
// within a partition.
func (l *partitionLog) highestSeq(ctx context.Context) (int64, error) {
	others := 0
	for to, step := l.end, int64(64); to > l.start && others < maxOthers; step *= 8 {
		part, highest := *l, int64(0)
		part.end = to
		to = max(l.start, to-step)
		err := part.scan(ctx, to, func(r *kgo.Record) bool {
			seq := seqOf(r)
			if seq == 0 {
				others++
			}
			highest = max(highest, seq)
			return true
		})
		if err != nil || highest > 0 {
			return highest, err
		}
	}
	return 0, nil
}

// seqOf returns a record's millrace-seq; 0 if it has none that a relay writes.
func seqOf(r *kgo.Record) int64 {
	for _, h := range r.Headers {
		if h.Key != headerSeq {
			continue
		}
		if seq, err := strconv.ParseInt(string(h.Value), 10, 64); err == nil && seq > 0 && seq <= maxSeq {
			return seq
		}
	}
	return 0
}
