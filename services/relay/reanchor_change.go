package relay

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// compare holds the table against what was read, and lists what was lost.
func (a *reanchoring) compare(ctx context.Context) error {
	found, err := a.anchor.Compare(ctx, a.opts.Since)
	if err != nil {
		return err
	}
	a.found = found
	a.out.Rows = found.Published + found.Judged + found.Unpublished
	a.out.Published, a.out.Assumed, a.out.Unpublished = found.Published, found.Judged, found.Unpublished
	a.out.LostEvents, a.out.Comparable = found.Lost, found.Comparable
	if a.out.SequenceBehind, err = a.anchor.SequenceBehind(ctx, a.maxRow); err != nil {
		return err
	}
	if a.opts.Lost == nil {
		return nil
	}
	return a.anchor.Lost(ctx, a.opts.Since, func(p store.Published) error { return a.opts.Lost(a.lost(p)) })
}

func (a *reanchoring) lost(p store.Published) LostEvent {
	e := LostEvent{
		Topic: p.Topic, Partition: p.Partition, Offset: p.Offset, Key: strings.ToValidUTF8(string(p.Key), "\ufffd"),
		EventID: uuid.UUID(p.EventID), Seq: p.Seq, OccurredAt: p.At, Parked: p.Held,
	}
	if p.Held {
		e.Topic, e.For = parkedTopic(a.cfg.Outbox), p.Topic
	}
	return e
}

// change does it. Until the last cursor is committed a relay that starts stops, and this can be begun anew; every step comes
// out the same.
func (a *reanchoring) change(ctx context.Context) error {
	judged := a.cursor.Anchoring != nil && a.cursor.Anchoring.Judged && store.Check(a.cursor.Anchoring.Source, a.source) == nil
	if err := a.mark(ctx, StepConfirmed, judged); err != nil {
		return err
	}
	if err := a.recordStart(ctx); err != nil {
		return err
	}
	rows, err := a.anchor.StampPublished(ctx, a.ids(StepPublished))
	a.out.Restamped += rows
	if err != nil {
		return err
	}
	if !judged {
		if err := a.mark(ctx, StepJudged, true); err != nil {
			return err
		}
	}
	if err := a.anchor.DrawTo(ctx, a.maxRow, a.ids(StepSequence)); err != nil {
		return err
	}
	last, source, rows, err := a.anchor.StampUnpublished(ctx, a.ids(StepUnpublish))
	a.out.Restamped += rows
	if err != nil {
		return err
	}
	return a.finish(ctx, last, source)
}

// recordStart puts back the record of the relay's first start, which a database restored to before it lacks.
func (a *reanchoring) recordStart(ctx context.Context) error {
	if a.started {
		return nil
	}
	first := store.First{ClusterID: a.place.cluster, CursorTopicID: a.place.topicID}
	return wrap(store.MarkStarted(ctx, a.conn, a.cfg.Schema, first), "record the first start")
}

// mark commits the old cursor as one that no relay goes on from.
func (a *reanchoring) mark(ctx context.Context, step string, judged bool) error {
	next := a.cursor.clone()
	next.Anchoring = &anchoring{Begun: time.Now(), Judged: judged, Source: a.source}
	if next.Position == 0 { // a page that was announced and not finished
		next.Upper = store.Snapshot{}
	}
	if before := a.cursor.Anchoring; before != nil {
		next.Anchoring.Begun = before.Begun
	}
	return a.commit(ctx, step, next)
}

// finish commits the cursor that a relay goes on from.
func (a *reanchoring) finish(ctx context.Context, last store.Snapshot, source store.Source) error {
	next := a.cursor.clone()
	next.Last, next.Upper, next.Position, next.Anchoring = last, store.Snapshot{}, 0, nil
	next.Intent = nil // what was announced and sent is in the topics, and not sent again
	next.Row, next.EventID, next.Source, next.Time = a.found.LastRow, a.found.LastEvent, source, time.Now().UTC()
	next.Xid, next.Highest = 0, 0 // of another history
	// Versions go on above every one that a sink may have seen.
	next.Seq = max(next.Seq, a.maxSeq)
	if err := a.commit(ctx, StepCursor, next); err != nil {
		return err
	}
	a.out.T, a.out.Seq = next.T, next.Seq
	a.opts.Progress(Progressed{Step: StepReanchored})
	return nil
}

// commit writes a cursor in a transaction of its own: the next t, on the transactional id that belongs to it.
func (a *reanchoring) commit(ctx context.Context, step string, next *cursor) error {
	a.opts.Progress(Progressed{Step: step})
	next.T = a.cursor.T + 1
	record, err := next.record(a.cfg.Outbox)
	if err != nil {
		return err
	}
	if err := a.producer.publish(ctx, next.T, []*kgo.Record{record}, nil); err != nil {
		return err
	}
	if err := a.producer.commit(ctx, next.T); err != nil {
		return fmt.Errorf("%w; run it again: it goes on where it was", err)
	}
	a.cursor = next
	return nil
}

// ids reports the progress of a step over row ids.
func (a *reanchoring) ids(step string) func(int64) {
	a.opts.Progress(Progressed{Step: step})
	total := a.maxRow
	return func(id int64) {
		total = max(total, id)
		a.opts.Progress(Progressed{step, id, total})
	}
}
