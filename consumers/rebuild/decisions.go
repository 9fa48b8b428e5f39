package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
)

// maxDecisions bounds the dead letters whose fate is held in memory.
const maxDecisions = 1_000_000

// decisions are what was decided about the dead letters of a sink.
type decisions struct {
	sink  string
	kafka []kgo.Opt
	// passed says whether the other generation, which decides, has passed an offset.
	passed func(ctx context.Context, tp consumers.TopicPartition, offset int64) (bool, error)

	mu    sync.Mutex // guards the following
	fates map[consumers.TopicPartition]map[int64]dlq.Fate
}

// read reads the dead letters, and what became of them, as they are now.
func (d *decisions) read(ctx context.Context) error {
	fates := map[consumers.TopicPartition]map[int64]dlq.Fate{}
	n := 0
	err := dlq.New(d.sink, d.kafka...).Fates(ctx, func(tp consumers.TopicPartition, offset int64, f dlq.Fate) error {
		if fates[tp] == nil {
			fates[tp] = map[int64]dlq.Fate{}
		}
		if fates[tp][offset] == dlq.FateNone {
			if n++; n > maxDecisions {
				return fmt.Errorf("the sink has more than %d dead letters: discard or redrive them first", maxDecisions)
			}
		}
		fates[tp][offset] = f
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the dead letters of %s: %w", d.sink, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fates = fates
	return nil
}

func (d *decisions) fate(tp consumers.TopicPartition, offset int64) dlq.Fate {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fates[tp][offset]
}

// settled says whether anything was decided about an event that was put aside.
func (d *decisions) settled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, offsets := range d.fates {
		for _, f := range offsets {
			if f != dlq.FatePending {
				return true
			}
		}
	}
	return false
}

// errPutAside makes an event poison that was put aside before.
var errPutAside = errors.New("put aside by the generation before")

// apply leaves out what was dropped, and marks what is put aside.
func (d *decisions) apply(events []consumers.Event) []consumers.Event {
	out, own := events, false
	for i := range events {
		f := d.fate(events[i].TopicPartition, events[i].Offset)
		if f != dlq.FateNone && !own && f != dlq.FateApplied && f != dlq.FateDroppedIfPoison {
			out, own = append(make([]consumers.Event, 0, len(events)), events[:i]...), true
		}
		if !own {
			continue
		}
		switch ev := events[i]; f {
		case dlq.FateDropped:
		case dlq.FatePending:
			if ev.Err == nil {
				ev.Err = errPutAside
			}
			out = append(out, ev)
		default:
			out = append(out, ev)
		}
	}
	return out
}

// check looks at what the new generation cannot apply. Its letter is there already, or it was dropped; else the generation that serves must have met the event before anything is said.
func (d *decisions) check(ctx context.Context, all []consumers.DeadLetter) error {
	unknown, skip := d.sort(all)
	if len(unknown) > 0 {
		for _, l := range unknown {
			passed, err := d.passed(ctx, l.TopicPartition, l.Offset)
			if err != nil {
				return err
			}
			if !passed {
				return fmt.Errorf("%s/%d offset %d cannot be applied; what serves has not come so far yet: %s", l.Topic, l.Partition, l.Offset, l.Reason)
			}
		}
		if err := d.read(ctx); err != nil {
			return err
		}
		if unknown, skip = d.sort(all); len(unknown) > 0 {
			return undecided(unknown)
		}
	}
	if len(skip) > 0 {
		return &skipError{skip}
	}
	return nil
}

func (d *decisions) sort(all []consumers.DeadLetter) (unknown []consumers.DeadLetter, skip []int64) {
	for _, l := range all {
		if l.Class != consumers.LetterPoison {
			continue // it stands behind another
		}
		switch d.fate(l.TopicPartition, l.Offset) {
		case dlq.FatePending:
		case dlq.FateDropped, dlq.FateDroppedIfPoison:
			skip = append(skip, l.Offset)
		default:
			unknown = append(unknown, l)
		}
	}
	return unknown, skip
}

// redriven are keys that the generation beside has in quarantine, and the one that serves does not any more: what came behind the bad event was applied there, and is on no topic of
// dead letters any more.
func (j *Job) redriven(ctx context.Context) ([]string, error) {
	w := j.work
	if w == nil || !w.running {
		return nil, errors.New("the former generation does not follow yet: try again in a moment")
	}
	if err := w.decided.read(ctx); err != nil {
		return nil, err
	}
	settled := map[string]bool{}
	err := consumers.ScanLetters(ctx, j.cfg.Kafka, j.cfg.Sink, func(l consumers.Letter) error {
		if !w.feed.fold.Owns(l.TopicPartition) {
			return fmt.Errorf("the former generation does not follow %s/%d yet, and has keys of it in quarantine perhaps: try again in a moment", l.Topic, l.Partition)
		}
		first, marked := w.feed.fold.Quarantined(l.TopicPartition, l.Key)
		if marked && l.Offset >= first && w.decided.fate(l.TopicPartition, l.Offset) != dlq.FatePending {
			settled[l.Key] = true
		}
		return nil
	})
	return slices.Sorted(maps.Keys(settled)), err
}
