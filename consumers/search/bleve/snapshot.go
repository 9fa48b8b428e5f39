package bleve

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/blevesearch/bleve/v2/index/scorch"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/stored"
)

// Snapshot implements fold.Snapshotter: a reader of the index, which shows documents and positions as of one batch. Files that merges replace meanwhile stay
// on the disk until it is closed.
func (s *Sink) Snapshot(ctx context.Context) (fold.Snapshot, error) {
	ix, done, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	inner, err := ix.Advanced()
	if err != nil {
		return nil, fmt.Errorf("snapshot of search index: %w", err)
	}
	r, err := inner.Reader()
	if err != nil {
		return nil, fmt.Errorf("snapshot of search index: %w", err)
	}
	reader, ok := r.(*scorch.IndexSnapshot)
	if !ok {
		return nil, errors.Join(fmt.Errorf("snapshot of search index: its reader is a %T", r), r.Close())
	}
	known, err := readPartitions(reader)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("snapshot of search index: %w", err), reader.Close())
	}
	positions := make(map[consumers.TopicPartition]int64, len(known))
	for tp, p := range known {
		if p.record.Next >= 0 {
			positions[tp] = p.record.Next
		}
	}
	return &snapshot{sink: s, reader: reader, positions: positions}, nil
}

// snapshot is a reader of the index. It outlives Close of the sink, but is not read any more then.
type snapshot struct {
	sink      *Sink
	reader    *scorch.IndexSnapshot // nil once closed
	positions map[consumers.TopicPartition]int64
}

// Positions implements fold.Snapshot.
func (s *snapshot) Positions() map[consumers.TopicPartition]int64 { return s.positions }

// Exact implements fold.Snapshot.
func (s *snapshot) Exact() bool { return true }

// Close implements fold.Snapshot.
func (s *snapshot) Close() error {
	r := s.reader
	if s.reader = nil; r == nil {
		return nil
	}
	return r.Close()
}

// atOnce is the number of documents that are read before yield gets them: the index may be closed in between.
const atOnce = 256

// kept is a document as it was read.
type kept struct {
	key   string
	state []byte
}

// States implements fold.Snapshot. It goes through the documents segment by segment, as they lie on the disk.
func (s *snapshot) States(ctx context.Context, entity string, yield func(string, fold.Stored) error) error {
	l, ok := s.sink.layouts[entity]
	if !ok {
		return consumers.AsSystemic(fmt.Errorf("read states of %s: the search index does not hold this entity", entity))
	}
	if s.reader == nil {
		return ErrClosed
	}
	var docs []kept
	for _, segment := range s.reader.Segments() {
		for live := segment.DocNumbersLive().Iterator(); live.HasNext(); {
			var err error
			if docs, err = s.read(ctx, l, segment, live, docs[:0]); err != nil {
				return fmt.Errorf("read states of %s from search index: %w", entity, err)
			}
			for _, d := range docs {
				state, err := stored.Decode(l.Columns, d.state)
				if err != nil {
					return fmt.Errorf("read states of %s from search index: key %q: %w", entity, d.key, err)
				}
				if err := yield(d.key, state); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// numbers are those of documents in a segment.
type numbers interface {
	HasNext() bool
	Next() uint32
}

// read appends the next documents of an entity.
func (s *snapshot) read(ctx context.Context, l *layout, segment *scorch.SegmentSnapshot, live numbers, docs []kept) ([]kept, error) {
	_, done, err := s.sink.use(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	prefix := []byte(l.id(""))
	for n := 0; n < atOnce && live.HasNext(); n++ {
		var d kept
		mine := false
		err := segment.VisitDocument(uint64(live.Next()), func(field string, _ byte, value []byte, _ []uint64) bool {
			switch field {
			case "_id": // comes first
				if mine = bytes.HasPrefix(value, prefix); mine {
					d.key = string(value[len(prefix):])
				}
			case stateField:
				if mine {
					d.state = bytes.Clone(value)
				}
			}
			return true // to stop at _id, zapx 17.2.3 puts what it reads with into its pool twice: two who read then share it
		})
		if err != nil {
			return nil, err
		}
		if mine {
			docs = append(docs, d)
		}
	}
	return docs, nil
}
