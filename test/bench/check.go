package bench

import (
	"bytes"
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// counted is what a topic holds, as a read_committed consumer reads it from its beginning to its end.
type counted struct {
	Events     int64 // records
	Missing    int64 // events of which there is none
	Duplicates int64 // records beyond an event's first
	Inversions int64 // records behind a later one of their key
	Strangers  int64 // records that no event was written for, or under a foreign key
}

// err is nil if each event is there once and in its order.
func (c counted) err() error {
	if c.Missing+c.Duplicates+c.Inversions+c.Strangers == 0 {
		return nil
	}
	return fmt.Errorf("the topic is not what was written: %d missing, %d twice, %d out of order, %d foreign, of %d", c.Missing, c.Duplicates, c.Inversions, c.Strangers, c.Events)
}

// count reads the whole topic and compares it with events 0 to n-1. each, if not nil, sees every record.
func (s *site) count(ctx context.Context, n int64, each func(*kgo.Record)) (counted, error) {
	ends, err := s.rig.stable(ctx, s.topic)
	if err != nil {
		return counted{}, err
	}
	t := newTally(n)
	tell := s.rig.progress(func() string { return fmt.Sprintf("counting what %s holds", s.topic) })
	defer tell()
	from := map[int32]kgo.Offset{}
	for p, end := range ends {
		if end > 0 {
			from[int32(p)] = kgo.NewOffset().AtStart()
		}
	}
	client, err := kgo.NewClient(append(s.rig.seeds(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // a partition may end in them
	)...)
	if err != nil {
		return counted{}, fmt.Errorf("make a consumer: %w", err)
	}
	defer client.Close()
	for left := len(from); left > 0; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return counted{}, fmt.Errorf("read %s: %w", s.topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset == ends[r.Partition]-1 {
				left--
			}
			if r.Attrs.IsControl() {
				return
			}
			t.add(r)
			if each != nil {
				each(r)
			}
		})
	}
	return t.result(n), nil
}

// tally counts records against the events that were written, whose numbers are below n. The events of a key are in the order of their numbers.
type tally struct {
	n       int64
	seen    []uint64 // a bit an event
	highest []int64  // by key, the highest number so far, plus 1
	place   []int32  // by key, its partition plus 1
	c       counted
}

func newTally(n int64) *tally {
	return &tally{n: n, seen: make([]uint64, (n+63)/64), highest: make([]int64, keys), place: make([]int32, keys)}
}

func (t *tally) add(r *kgo.Record) {
	t.c.Events++
	n, _, err := read(r.Value)
	if err != nil || n < 0 || n >= t.n || !bytes.Equal(r.Key, []byte(keyOf(n))) {
		t.c.Strangers++
		return
	}
	if bit := uint64(1) << (n % 64); t.seen[n/64]&bit != 0 {
		t.c.Duplicates++
		return
	} else {
		t.seen[n/64] |= bit
	}
	key := n % keys
	if n < t.highest[key] || t.place[key] != 0 && t.place[key] != r.Partition+1 {
		t.c.Inversions++
	}
	t.highest[key], t.place[key] = max(t.highest[key], n+1), r.Partition+1
}

// result is the count after want events were written.
func (t *tally) result(want int64) counted {
	t.c.Missing = want - (t.c.Events - t.c.Duplicates - t.c.Strangers)
	return t.c
}
