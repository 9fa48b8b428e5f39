package relay

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ParkedIndex says which events the relay of an outbox holds: their ids, order and reasons, at about a hundred bytes each. What
// they say is read again from Kafka by Each, a few at a time. It is not safe for concurrent use.
type ParkedIndex struct {
	client   *kgo.Client
	contents []*parkedContents // a partition each
	all      []indexed
	held     pins
}

// indexed is an event of the index.
type indexed struct {
	held
	at        time.Time // when it was parked
	row       int64
	partition int32
}

// OpenParked reads the parked topic to its end and finds the events that are selected. kafka are the options that reach the
// brokers. It needs no relay to run, and finds none where the outbox never parked anything. progress is told now and then how much
// of the topic, in offsets, was read; nil for nobody. The caller closes.
func OpenParked(ctx context.Context, kafka []kgo.Opt, outbox string, s Selection, progress func(read, total int64)) (*ParkedIndex, error) {
	client, err := newClient(kafka)
	if err != nil {
		return nil, err
	}
	logs, err := parkedLogs(ctx, client, outbox)
	if err == nil {
		x := &ParkedIndex{client: client}
		if err = x.read(ctx, logs, s, progress); err == nil {
			return x, nil
		}
	}
	client.Close()
	return nil, err
}

// progressEvery is how many records are read between two words about it.
const progressEvery = 1000

func (x *ParkedIndex) read(ctx context.Context, logs []*partitionLog, s Selection, progress func(read, total int64)) error {
	found, meant := map[uuid.UUID]indexed{}, s.meant()
	var read, total, records int64
	for _, l := range logs {
		total += l.end - l.start
	}
	for _, l := range logs {
		err := scanParked(ctx, []*partitionLog{l}, func(r *kgo.Record, p *Parked) {
			if records++; progress != nil && records%progressEvery == 0 {
				progress(read+r.Offset-l.start, total)
			}
			if p == nil || !meant(p) { // it may have been parked for another reason before
				if id, err := uuid.ParseBytes(r.Key); err == nil {
					delete(found, id)
					x.held.drop(id)
				}
				return
			}
			x.held.hold(p)
			found[p.EventID] = indexed{
				held: held{id: p.EventID, position: p.Position, offset: r.Offset, size: int32(len(r.Value)), reason: p.Reason.interned()},
				at:   p.ParkedAt, row: p.Row, partition: l.partition,
			}
		})
		if err != nil {
			return err
		}
		read += l.end - l.start
		x.contents = append(x.contents, newParkedContents(l, "", nil))
	}
	x.all = slices.SortedFunc(maps.Values(found), func(a, b indexed) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.row, b.row)) })
	return nil
}

// Close lets go of the connection.
func (x *ParkedIndex) Close() { x.client.Close() }

// Len is how many events were found.
func (x *ParkedIndex) Len() int { return len(x.all) }

// IDs are those of the events that were found, in the order in which they were parked.
func (x *ParkedIndex) IDs() []uuid.UUID {
	ids := make([]uuid.UUID, len(x.all))
	for i := range x.all {
		ids[i] = x.all[i].id
	}
	return ids
}

// Reasons counts the events by why they are parked.
func (x *ParkedIndex) Reasons() map[Reason]int {
	n := map[Reason]int{}
	for i := range x.all {
		n[x.all[i].reason]++
	}
	return n
}

// eachEvents and eachBytes bound what Each holds at once.
const (
	eachEvents = 500
	eachBytes  = 4 << 20
)

// Each calls fn for the first n events, in the order in which they were parked; for all if n is 0. What was released or discarded
// since the index was read, and is compacted away, is left out. An error of fn ends it.
func (x *ParkedIndex) Each(ctx context.Context, n int, fn func(*Parked) error) error {
	rest := x.all
	if n > 0 {
		rest = rest[:min(n, len(rest))]
	}
	for len(rest) > 0 {
		some, size := 0, 0
		for some < min(len(rest), eachEvents) && (some == 0 || size < eachBytes) {
			size += int(rest[some].size)
			some++
		}
		if err := x.some(ctx, rest[:some], fn); err != nil {
			return err
		}
		rest = rest[some:]
	}
	return nil
}

// some reads a few events in the order in which they lie, and hands them over in the order that they have.
func (x *ParkedIndex) some(ctx context.Context, all []indexed, fn func(*Parked) error) error {
	for i, c := range x.contents {
		var next []held
		for _, e := range all {
			if int(e.partition) == i {
				next = append(next, e.held)
			}
		}
		if err := c.expect(ctx, next); err != nil {
			return err
		}
	}
	for _, e := range all {
		p, err := x.contents[e.partition].record(ctx, e.held)
		if err == nil && p != nil {
			err = fn(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// meant says of an event whether it is among those that a selection means: of a key all, and of a reason those alone that are
// parked for it.
func (s *Selection) meant() func(*Parked) bool {
	named := make(map[uuid.UUID]bool, len(s.Events))
	for _, id := range s.Events {
		named[id] = true
	}
	return func(p *Parked) bool {
		return s.All || named[p.EventID] || s.Reason != "" && p.Reason == s.Reason ||
			s.Key != nil && p.Topic == lineKey(s.Topic) && p.Key == lineKey(*s.Key)
	}
}
