package fold

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
)

// work is one batch being folded. It touches nothing outside itself, so that it can be thrown away.
type work struct {
	projections []Projection
	cells       []map[string]*cell // one map a projection, by key
	marks       map[string]int64   // quarantined before the batch; read only
	fresh       map[string]int64   // quarantined by the batch
	letters     []consumers.DeadLetter
	applied     []consumers.Event
	keyless     int // poison events without a key to quarantine
	stale       int
}

// cell is the state of one key as the batch changes it.
type cell struct {
	Stored
	known     bool // the store holds it, or the batch will make it
	existed   bool // it existed before the batch
	changed   bool
	cacheKeys map[string]struct{}
}

// step is what one event does to one cell.
type step struct {
	cell      *cell
	next      projection.State
	cacheKeys []string
	stale     bool
}

func newWork(projections []Projection, marks map[string]int64) *work {
	w := &work{projections: projections, marks: marks, fresh: map[string]int64{}}
	for range projections {
		w.cells = append(w.cells, map[string]*cell{})
	}
	return w
}

// load loads the states that the events may change, in one call an entity.
func (w *work) load(ctx context.Context, sink Sink, events []consumers.Event) error {
	if len(w.projections) == 0 {
		return nil
	}
	keys := w.keys(events)
	if len(keys) == 0 {
		return nil
	}
	for i, p := range w.projections {
		stored, err := sink.Load(ctx, p.Entity(), keys)
		if err != nil {
			return err
		}
		for _, k := range keys {
			s, known := stored[k]
			w.cells[i][k] = &cell{Stored: s, known: known, existed: s.Exists}
		}
	}
	return nil
}

// keys returns the keys of the events that can be folded, sorted.
func (w *work) keys(events []consumers.Event) []string {
	set := make(map[string]struct{}, len(events))
	for i := range events {
		if _, marked := w.marks[events[i].Key]; events[i].Err == nil && !marked && events[i].HasKey() {
			set[events[i].Key] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// apply folds one event into every projection of its topic, or into none: an event that one of them cannot fold is poison.
// The error is systemic, or a projection said so.
func (w *work) apply(ev *consumers.Event) error {
	if first, ok := w.quarantined(ev.Key); ok {
		w.letters = append(w.letters, consumers.DeadLetter{Event: *ev, Class: consumers.LetterQuarantined, First: first,
			Reason: fmt.Sprintf("the key is quarantined since offset %d", first)})
		return nil
	}
	if err := cmp.Or(ev.Err, keyErr(ev)); err != nil {
		w.poison(ev, err)
		return nil
	}
	steps := make([]step, len(w.projections))
	for i, p := range w.projections {
		var err error
		if steps[i], err = advance(p, w.cells[i][ev.Key], ev); err != nil {
			if consumers.Classify(err) == consumers.Systemic {
				return err
			}
			w.poison(ev, fmt.Errorf("entity %s: %w", p.Entity(), err))
			return nil
		}
	}
	for _, s := range steps {
		w.take(s, ev)
	}
	w.applied = append(w.applied, *ev)
	return nil
}

func keyErr(ev *consumers.Event) error {
	if ev.HasKey() {
		return nil
	}
	return errNoKey
}

func (w *work) quarantined(key string) (first int64, ok bool) {
	if first, ok = w.marks[key]; !ok {
		first, ok = w.fresh[key]
	}
	return first, ok
}

// poison puts an event aside and marks its key.
func (w *work) poison(ev *consumers.Event, err error) {
	w.letters = append(w.letters, consumers.DeadLetter{Event: *ev, Class: consumers.LetterPoison, First: ev.Offset, Reason: err.Error()})
	if !ev.HasKey() {
		w.keyless++
		return
	}
	w.fresh[ev.Key] = ev.Offset
}

// advance works out what an event does to a cell, and changes nothing.
func advance(p Projection, c *cell, ev *consumers.Event) (s step, err error) {
	// A projection may be somebody's function; what it does with one event must not end the process.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the projection panicked: %v", r)
		}
	}()
	s.cell = c
	if c.known && ev.Seq <= c.Version {
		s.stale = true
		return s, nil
	}
	if s.next, err = p.Fold(c.State, ev); err != nil {
		return s, err
	}
	if !s.next.Exists {
		s.next = projection.State{}
	}
	if c.cacheKeys == nil && c.Exists {
		if s.cacheKeys, err = p.CacheKeys(ev.Key, c.State); err != nil {
			return s, err
		}
		s.cacheKeys = slices.Clone(s.cacheKeys)
	}
	if s.next.Exists {
		keys, err := p.CacheKeys(ev.Key, s.next)
		if err != nil {
			return s, err
		}
		s.cacheKeys = append(s.cacheKeys, keys...)
	}
	return s, nil
}

// take makes a step. A state that never existed stays unknown until an event makes it exist, however the topic is cut
// into batches.
func (w *work) take(s step, ev *consumers.Event) {
	c := s.cell
	if s.stale {
		w.stale++
		return
	}
	if !c.known && !s.next.Exists {
		return
	}
	if c.cacheKeys == nil {
		c.cacheKeys = map[string]struct{}{}
	}
	for _, k := range s.cacheKeys {
		c.cacheKeys[k] = struct{}{}
	}
	c.State, c.known, c.changed = s.next, true, true
	c.Version, c.EventID, c.Time = ev.Seq, ev.ID, ev.Time
}

// commit is the effect of the batch.
func (w *work) commit(b consumers.Batch, epoch int64) Commit {
	c := Commit{
		TopicPartition: b.TopicPartition, Epoch: epoch, From: b.From, Next: b.Next,
		Events: w.applied, Changes: map[string][]Change{}, Quarantine: w.fresh,
	}
	for i, p := range w.projections {
		if changes := changesOf(w.cells[i]); len(changes) > 0 {
			c.Changes[p.Entity()] = changes
		}
	}
	return c
}

func changesOf(cells map[string]*cell) []Change {
	var changes []Change
	for key, c := range cells {
		if c.changed {
			changes = append(changes, Change{Key: key, Stored: c.Stored, Existed: c.existed, CacheKeys: slices.Sorted(maps.Keys(c.cacheKeys))})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Key, b.Key) })
	return changes
}
