package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// CursorTopic is the topic that holds an outbox's cursor: compacted, two partitions.
func CursorTopic(outbox string) string { return cursorTopic(outbox) }

// ParkedTopic is the topic that holds an outbox's parked events: compacted, one partition.
func ParkedTopic(outbox string) string { return parkedTopic(outbox) }

// TransactionalIDs are the two ids in turn under which an outbox is published.
func TransactionalIDs(outbox string) []string {
	return []string{transactionalID(outbox, 0), transactionalID(outbox, 1)}
}

// BatchBytes is the largest batch of one record that a relay of this configuration sends: what max.message.bytes of a topic should
// allow.
func (c Config) BatchBytes() int { return c.MaxRecordBytes + batchOverhead }

// TopicFault says why events may not be written to a topic of this name; empty if they may.
func TopicFault(name string) string { return topicNameFault(name) }

// Partition is where a key goes in a topic whose keys are hashed over n partitions.
func Partition(key []byte, n int32) int32 { return partitionOf(key, n) }

// Published returns the topics that an outbox has published to, with the partitions that their keys are hashed over; none if it has
// published nothing yet.
func Published(ctx context.Context, client *kgo.Client, outbox string) (map[string]int32, error) {
	cur, err := committedCursor(ctx, client, outbox)
	if err != nil || cur == nil {
		return nil, err
	}
	return cur.Partitions, nil
}

// Log reads the committed records of a topic back, up to where it ended when the log was opened.
type Log struct{ partitions []*partitionLog }

// settleTime is how long a log waits for transactions that are ending: their last markers are written a moment after the commit returned.
const settleTime = 2 * time.Second

// OpenLog opens a topic that exists. It ends before the oldest transaction that is still open after a moment; with settled it is waited
// until none is.
func OpenLog(ctx context.Context, client *kgo.Client, topic string, settled bool) (*Log, error) {
	until := soonEnds
	if settled {
		until = stableEnds
	}
	logs, err := openLogs(ctx, client, until, topic)
	if err != nil {
		return nil, err
	}
	return &Log{logs[topic]}, nil
}

// ID is Kafka's id of the topic: another after it was deleted and made anew.
func (l *Log) ID() string { return l.partitions[0].id.String() }

// Partitions is how many partitions the topic has.
func (l *Log) Partitions() int32 { return int32(len(l.partitions)) }

// Extent is the first offset of a partition, and the one that reading ends before.
func (l *Log) Extent(partition int32) (start, end int64) {
	p := l.partitions[partition]
	return p.start, p.end
}

// Read returns the committed records of one answer of the broker, at most about 1 MiB before it is unpacked, from an offset on, and
// the offset to go on at: that of the extent's end when nothing is left. Markers and aborted records are left out, so that there may be
// none.
func (l *Log) Read(ctx context.Context, partition int32, from int64) ([]*kgo.Record, int64, error) {
	p := l.partitions[partition]
	if from >= p.end {
		return nil, p.end, nil
	}
	got, next, err := p.fetch(ctx, from)
	if err == nil && next <= from {
		err = p.ended(got)
		next = p.end
	}
	if err != nil {
		return nil, from, fmt.Errorf("read %s, partition %d, from offset %d: %w", p.topic, partition, from, err)
	}
	records := got.Records
	for len(records) > 0 && records[len(records)-1].Offset >= p.end {
		records = records[:len(records)-1]
	}
	return records, min(next, p.end), nil
}

// soonEnds returns the high watermarks or, where a transaction stays open before one, the last stable offset.
func soonEnds(ctx context.Context, admin *kadm.Client, names []string) (kadm.ListedOffsets, error) {
	high, err := lastEnds(ctx, admin, names)
	if err != nil {
		return nil, err
	}
	began, pause := time.Now(), backoff{min: 2 * time.Millisecond, max: 100 * time.Millisecond}
	for attempt := 0; ; attempt++ {
		stable, err := committedEnds(ctx, admin, names)
		if err != nil || reached(stable, high) {
			return high, err
		}
		if time.Since(began) > settleTime {
			return lower(stable, high), nil
		}
		if err := pause.wait(ctx, attempt); err != nil {
			return nil, err
		}
	}
}

// lower returns of each partition the lower of two offsets.
func lower(a, b kadm.ListedOffsets) kadm.ListedOffsets {
	out := kadm.ListedOffsets{}
	a.Each(func(o kadm.ListedOffset) {
		if other, ok := b.Lookup(o.Topic, o.Partition); ok && other.Offset < o.Offset {
			o = other
		}
		if out[o.Topic] == nil {
			out[o.Topic] = map[int32]kadm.ListedOffset{}
		}
		out[o.Topic][o.Partition] = o
	})
	return out
}
