package fold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/millrace/millrace/consumers"
)

var _ consumers.Redriver = (*Fold)(nil)

// Quarantined implements consumers.Redriver.
func (f *Fold) Quarantined(tp consumers.TopicPartition, key string) (int64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.owned[tp]
	if o == nil {
		return 0, false
	}
	first, ok := o.marks[key]
	return first, ok
}

// Owns says whether this process has claimed a partition: of others it knows no quarantine.
func (f *Fold) Owns(tp consumers.TopicPartition) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owned[tp] != nil
}

// Redrive implements consumers.Redriver.
//
// Promise 4: states, events and marks are one commit. As the mark moves past an event in the step that applies it, no repetition
// applies it again, and a crash in between leaves it marked.
func (f *Fold) Redrive(ctx context.Context, r consumers.Redrive) (consumers.Redriven, error) {
	o, err := f.owner(r.TopicPartition)
	if err != nil {
		return consumers.Redriven{}, err
	}
	var refused map[int64]error
	for {
		out, err := f.redrive(ctx, o, r, refused)
		more, again := refusals(err, refused)
		if !again {
			return out, err
		}
		refused = more
	}
}

// redrive is one try. What the sink has refused cannot be applied.
func (f *Fold) redrive(ctx context.Context, o *owned, r consumers.Redrive, refused map[int64]error) (consumers.Redriven, error) {
	out := consumers.Redriven{Applied: map[string]int64{}, Dropped: map[string]int64{}, Stuck: map[string]consumers.StuckAt{}}
	w := newWork(f.byTopic[r.Topic], nil)
	w.refused = refused
	if err := w.load(ctx, f.cfg.Sink, r.Events); err != nil {
		return out, fmt.Errorf("load states of %s/%d to redrive: %w", r.Topic, r.Partition, err)
	}
	for i := range r.Events {
		if err := w.redrive(&r.Events[i], r.DropPoison, out); err != nil {
			return out, fmt.Errorf("redrive %s/%d offset %d: %w", r.Topic, r.Partition, r.Events[i].Offset, err)
		}
	}
	lifted, moved := marksAfter(o.marks, r.Rest, out.Stuck)
	if len(lifted) == 0 {
		return out, nil
	}
	c := w.commit(consumers.Batch{TopicPartition: r.TopicPartition, From: o.next, Next: o.next}, o.epoch)
	c.Lifted, c.Quarantine = lifted, moved
	if err := f.cfg.Sink.Commit(ctx, c); err != nil {
		return out, unsure(fmt.Errorf("commit what was redriven of %s/%d: %w", r.Topic, r.Partition, err))
	}
	f.redriven(o, w, lifted, moved)
	return out, nil
}

// redrive applies one event that was put aside. The error is systemic.
func (w *work) redrive(ev *consumers.Event, dropPoison map[string]int64, out consumers.Redriven) error {
	if _, stuck := out.Stuck[ev.Key]; stuck {
		return nil
	}
	poison := cmp.Or(ev.Err, keyErr(ev), w.refused[ev.Offset])
	if poison == nil {
		var err error
		if poison, err = w.fold(ev); err != nil {
			return err
		}
	}
	switch {
	case poison == nil:
		out.Applied[ev.Key]++
	case ev.Offset < dropPoison[ev.Key]:
		out.Dropped[ev.Key]++
	default:
		out.Stuck[ev.Key] = consumers.StuckAt{Offset: ev.Offset, Reason: poison.Error()}
	}
	return nil
}

// marksAfter returns the keys whose mark changes, and those of them that keep one, with its offset.
func marksAfter(marks, rest map[string]int64, stuck map[string]consumers.StuckAt) (lifted []string, moved map[string]int64) {
	moved = map[string]int64{}
	for key, at := range rest {
		if s, ok := stuck[key]; ok {
			at = s.Offset
		}
		if now, marked := marks[key]; !marked || now == at {
			continue
		}
		lifted = append(lifted, key)
		if at >= 0 {
			moved[key] = at
		}
	}
	return lifted, moved
}

// redriven takes over what the store has taken.
func (f *Fold) redriven(o *owned, w *work, lifted []string, moved map[string]int64) {
	f.metrics.batch(w)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range lifted {
		delete(o.marks, key)
	}
	maps.Copy(o.marks, moved)
	f.metrics.quarantined.Set(float64(f.quarantinedLocked()))
}

// unsure makes the caller claim the partition anew: a commit with an unchanged position is not told apart from its repetition.
func unsure(err error) error {
	var none *notStored
	if errors.As(err, &none) || consumers.Classify(err) == consumers.Systemic || errors.Is(err, consumers.ErrFenced) || errors.Is(err, consumers.ErrPosition) {
		return err
	}
	return fmt.Errorf("%w: %w", err, consumers.ErrPosition)
}
