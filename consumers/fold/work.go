package fold

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
)

// work is one batch being folded. It touches nothing outside itself, so that it can be thrown away.
type work struct {
	projections []Projection
	overwriters []Overwriter     // by projection; nil: it does not always overwrite
	recent      *recent          // states known without loading; nil: none
	marks       map[string]int64 // quarantined before the batch; read only
	refused     map[int64]error  // by offset, what the sink cannot take

	numbers map[string]int // of the keys, in the order of their first events
	keys    []string       // by number
	cells   []cell         // by number, one a projection
	order   []int          // the numbers in order of key
	whole   []bool         // by number: an event of the key needs the values of the state before it
	last    typeMemo
	steps   []step // what one event does, by projection

	fresh   map[string]int64 // quarantined by the batch; nil if none is
	letters []consumers.DeadLetter
	batch   []consumers.Event
	applied []consumers.Event // the batch itself as long as nothing of it is left out
	own     bool              // applied is a slice of its own
	keyless int               // poison events without a key to quarantine
	stale   int
}

// cell is the state of one key as the batch changes it.
type cell struct {
	Stored
	known     bool // the store holds it, or the batch will make it
	existed   bool // it existed before the batch
	changed   bool
	cacheKeys []string // of every state it went through; in no order, some twice
	row       int64    // the least version of the application's row that is not old; 0: not known
}

// step is what one event does to one cell.
type step struct {
	cell      *cell
	next      projection.State
	cacheKeys []string
	stale     bool
}

func newWork(projections []Projection, marks map[string]int64) *work {
	w := &work{projections: projections, marks: marks, numbers: map[string]int{}, steps: make([]step, len(projections))}
	for _, p := range projections {
		w.overwriters = append(w.overwriters, overwriter(p))
	}
	return w
}

// typeMemo remembers the answer for the last type of events: most batches have few.
type typeMemo struct {
	name  string
	known bool
	leans bool
}

// leans says that an event of a type needs the values of the state before it, in a projection that remembers none.
func (w *work) leans(eventType string) bool {
	if m := &w.last; !m.known || m.name != eventType {
		*m = typeMemo{eventType, true, slices.ContainsFunc(w.overwriters, func(o Overwriter) bool { return o != nil && !o.Overwrites(eventType) })}
	}
	return w.last.leans
}

// reset makes the work ready for another batch. What was handed out with the last commit is not used again.
func (w *work) reset() {
	clear(w.numbers)
	clear(w.keys)
	clear(w.cells)
	clear(w.steps)
	*w = work{
		projections: w.projections, overwriters: w.overwriters, recent: w.recent, marks: w.marks,
		numbers: w.numbers, keys: w.keys[:0], cells: w.cells[:0], order: w.order[:0], whole: w.whole[:0], steps: w.steps,
	}
}

// load finds the states that the events may change: among the recent ones, else in the store, in one call an entity.
func (w *work) load(ctx context.Context, sink Sink, events []consumers.Event) error {
	w.batch = events
	if len(w.projections) == 0 {
		return nil
	}
	w.number(events)
	missing := make([]string, 0, len(w.keys))
	for _, n := range w.order {
		if !w.recent.fill(w.keys[n], w.of(n), w.whole[n]) {
			missing = append(missing, w.keys[n])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for i, p := range w.projections {
		stored, err := sink.Load(ctx, p.Entity(), missing)
		if err != nil {
			return err
		}
		for _, k := range missing {
			if s, known := stored[k]; known {
				w.of(w.numbers[k])[i] = cell{Stored: s, known: true, existed: s.Exists}
			}
		}
	}
	return nil
}

// number numbers the keys of the events that can be folded.
func (w *work) number(events []consumers.Event) {
	for i := range events {
		ev := &events[i]
		if _, marked := w.marks[ev.Key]; ev.Err != nil || marked || !ev.HasKey() {
			continue
		}
		n, ok := w.numbers[ev.Key]
		if !ok {
			n = len(w.keys)
			w.numbers[ev.Key] = n
			w.order = append(w.order, n)
			w.keys = append(w.keys, ev.Key)
			w.whole = append(w.whole, false)
		}
		if w.leans(ev.Type) {
			w.whole[n] = true
			w.recent.keepStates()
		}
	}
	slices.SortFunc(w.order, func(a, b int) int { return strings.Compare(w.keys[a], w.keys[b]) })
	w.cells = slices.Grow(w.cells, len(w.keys)*len(w.projections))[:len(w.keys)*len(w.projections)]
}

// of returns the cells of a key, one a projection.
func (w *work) of(number int) []cell {
	return w.cells[number*len(w.projections) : (number+1)*len(w.projections)]
}

// apply folds one event into every projection of its topic, or into none: an event that one of them cannot fold is poison.
// The error is systemic, or a projection said so.
func (w *work) apply(ev *consumers.Event) error {
	if first, ok := w.quarantined(ev.Key); ok {
		w.letters = append(w.letters, consumers.DeadLetter{Event: *ev, Class: consumers.LetterQuarantined, First: first,
			Reason: fmt.Sprintf("the key is quarantined since offset %d", first)})
		return nil
	}
	poison := cmp.Or(ev.Err, keyErr(ev), w.refused[ev.Offset])
	if poison == nil {
		var err error
		if poison, err = w.fold(ev); err != nil {
			return err
		}
	}
	if poison != nil {
		w.poison(ev, poison)
	}
	return nil
}

// fold folds one event into every projection, or into none if one of them cannot: then it says why the event is poison.
func (w *work) fold(ev *consumers.Event) (poison, err error) {
	if len(w.projections) > 0 {
		cells := w.of(w.numbers[ev.Key])
		for i, p := range w.projections {
			if w.steps[i], err = advance(p, &cells[i], ev); err != nil {
				if consumers.Classify(err) == consumers.Systemic {
					return nil, err
				}
				return fmt.Errorf("entity %s: %w", p.Entity(), err), nil
			}
		}
		for i := range w.steps {
			w.take(w.projections[i], &w.steps[i], ev)
		}
	}
	w.keep(ev)
	return nil, nil
}

// keep notes an event that was applied. Copies begin behind the first that was not.
func (w *work) keep(ev *consumers.Event) {
	n := len(w.applied)
	if !w.own && n < len(w.batch) && ev == &w.batch[n] {
		w.applied = w.batch[:n+1]
		return
	}
	if !w.own {
		w.own = true
		w.applied = append(make([]consumers.Event, 0, len(w.batch)), w.applied...)
	}
	w.applied = append(w.applied, *ev)
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
	if w.fresh == nil {
		w.fresh = map[string]int64{}
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
	if !c.changed && c.Exists {
		if s.cacheKeys, err = p.CacheKeys(ev.Key, c.State); err != nil {
			return s, err
		}
	}
	if s.next.Exists {
		keys, err := p.CacheKeys(ev.Key, s.next)
		if err != nil {
			return s, err
		}
		s.cacheKeys = append(s.cacheKeys[:len(s.cacheKeys):len(s.cacheKeys)], keys...)
	}
	return s, nil
}

// take makes a step. A state that never existed stays unknown until an event makes it exist, however the topic is cut
// into batches.
func (w *work) take(p Projection, s *step, ev *consumers.Event) {
	c := s.cell
	if s.stale {
		w.stale++
		return
	}
	if !c.known && !s.next.Exists {
		return
	}
	for _, k := range s.cacheKeys {
		if len(c.cacheKeys) >= fewCacheKeys || !slices.Contains(c.cacheKeys, k) {
			c.cacheKeys = append(c.cacheKeys, k)
		}
	}
	if v, versioned := p.(CacheVersioner); versioned {
		c.row = max(c.row, rowAfter(v, c.State, s.next))
	}
	c.State, c.known, c.changed = s.next, true, true
	c.Version, c.EventID, c.Time = ev.Seq, ev.ID, ev.Time
}

// rowAfter is the least version of a row that is not old after a step. Where the new state does not tell, as one that was deleted, it is more than that of
// the state before.
func rowAfter(v CacheVersioner, before, next projection.State) int64 {
	if version, ok := v.CacheVersion(next); ok {
		return version
	}
	if version, ok := v.CacheVersion(before); ok {
		return version + 1
	}
	return 0
}

// fewCacheKeys is up to how many cache keys of one state are compared one by one.
const fewCacheKeys = 16

// commit is the effect of the batch.
func (w *work) commit(b consumers.Batch, epoch int64) Commit {
	c := Commit{
		TopicPartition: b.TopicPartition, Epoch: epoch, From: b.From, Next: b.Next,
		Events: w.applied, Changes: map[string][]Change{}, Quarantine: w.fresh,
	}
	for i, p := range w.projections {
		if changes := w.changesOf(i); len(changes) > 0 {
			c.Changes[p.Entity()] = changes
		}
	}
	return c
}

// changed counts the states of a projection that the batch changes.
func (w *work) changed(projection int) (n int) {
	for i := projection; i < len(w.cells); i += len(w.projections) {
		if w.cells[i].changed {
			n++
		}
	}
	return n
}

func (w *work) changesOf(projection int) []Change {
	n := w.changed(projection)
	if n == 0 {
		return nil
	}
	changes := make([]Change, 0, n)
	for _, number := range w.order {
		if c := &w.of(number)[projection]; c.changed {
			slices.Sort(c.cacheKeys)
			changes = append(changes, Change{Key: w.keys[number], Stored: c.Stored, Existed: c.existed, CacheKeys: slices.Compact(c.cacheKeys), CacheVersion: c.row})
		}
	}
	return changes
}
