package relay

import (
	"context"

	"github.com/millrace/millrace/outbox/store"
)

const (
	// verifyRows and verifyBytes bound the rows that are held at once.
	verifyRows  = 5000
	verifyBytes = 8 << 20
	// maxEdged bounds the rows that are compared although they are dated before those that have left the outbox.
	maxEdged = 200_000
)

// readRows goes through the retained rows that the cursor counts.
func (v *verification) readRows(ctx context.Context) error {
	selected := store.Selected{Published: store.PublishedRows{Last: v.cursor.Last, Upper: v.cursor.Upper, Position: v.cursor.Position}}
	var l look
	read := int64(0)
	for from, more := v.ring.Floor, true; more && from <= v.last; {
		var page store.Page
		var err error
		page, more, err = store.ReadRetained(ctx, v.conn, v.cfg.Schema, selected, from, v.last, verifyRows, verifyBytes)
		if err != nil {
			return err
		}
		for i := range page.Events {
			if err := v.row(ctx, &page.Events[i], &l); err != nil {
				return err
			}
		}
		if last, some := page.LastID(); some {
			from = last + 1
		}
		read += int64(len(page.Events))
		page.Release()
		v.tell("rows of the outbox", read)
	}
	v.done += read
	return nil
}

// row takes one row.
func (v *verification) row(ctx context.Context, e *store.Event, l *look) error {
	if v.explained(e) {
		return nil
	}
	at := partitionAt{e.Topic, -1} // of a topic that nothing was published to
	if n := v.cursor.Partitions[e.Topic]; n > 0 {
		at.partition = partitionOf([]byte(e.Key), n)
	}
	if v.compacts[e.Topic] || !v.sampled([]byte(e.Key)) || !v.reaches(e, at) {
		return nil
	}
	if v.dig != nil && !v.dig.wants(e.EventID) {
		return nil
	}
	if err := v.lookAt(ctx, e, at.partition, l); err != nil {
		return err
	}
	if v.dig != nil {
		v.dig.row(e, l)
		return nil
	}
	v.sums.row(l)
	v.count(at).Rows++
	v.earliest = min(v.earliest, l.dated)
	if !v.held.released[e.EventID] && !v.parksAlone(e.Topic) { // what was parked by itself comes when it comes
		v.order.row(e)
	}
	return nil
}

// parksAlone says whether later events of a key go on past a bad one.
func (v *verification) parksAlone(topic string) bool {
	t, listed := v.cfg.Topics[topic]
	if !listed {
		t = v.cfg.TopicDefaults
	}
	return t.OnPoison == ParkEvent
}

// explained says whether a row is not in its topic, as it should be.
func (v *verification) explained(e *store.Event) bool {
	first := v.dig == nil
	gone := v.held.discarded[e.EventID]
	switch {
	case v.held.moving[e.EventID]:
		v.out.Moving += one64(first)
	case v.held.parked[e.EventID]:
		v.out.Parked += one64(first)
	case gone != nil:
		if v.out.Discarded += one64(first); first && len(v.out.DiscardedEvents) < v.opts.Examples {
			named := *gone
			named.Topic, named.Key = shorten(e.Topic), shorten(e.Key)
			v.out.DiscardedEvents = append(v.out.DiscardedEvents, &named)
		}
	default:
		return false
	}
	return true
}

func one64(yes bool) int64 { return int64(one(yes)) }

// reaches says whether a row's partition reaches back to it, and remembers a row from the edge of what the outbox retains.
func (v *verification) reaches(e *store.Event, at partitionAt) bool {
	dated := sane(e.OccurredAt).UnixMilli()
	if horizon, forgets := v.horizons[at]; forgets && dated < horizon {
		v.out.BeyondTopic += one64(v.dig == nil)
		return false
	}
	if dated >= v.edge || v.edged[e.EventID] {
		return true
	}
	if v.dig != nil || len(v.edged) >= maxEdged {
		return false
	}
	if v.edged[e.EventID] = true; len(v.edged) == maxEdged {
		v.note("more than %d rows are dated before those that have left the outbox: the others of them were not compared", maxEdged)
	}
	return true
}
