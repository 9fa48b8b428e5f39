package compare

import (
	"cmp"
	"errors"
	"iter"
	"slices"

	"github.com/millrace/millrace/consumers/fold"
)

// Audit compares what a store holds of an entity with what should be there, which comes partition by partition. First Holds is called with every state of
// the store, then Should with those of each partition; if Again says so, HoldsAgain with every state of the store once more, and Result.
//
// Of the results, Old is the store, and New what should be there.
type Audit struct {
	*plan
	spread
	opts          Options
	inexact       bool
	holds, should *tally
	pairs         *pairs
	kept          int
	capped        bool
	out           *Compared
	open          []Candidate
}

// Candidate is a key whose state differs in a store that cannot be read at one moment: it may have moved on.
type Candidate struct {
	Key  string
	Kind Kind
	// Want is what should be there at the cut; nil if nothing should.
	Want *fold.Stored
}

// maxKept is how many states are kept whole that may turn out to differ; of more, only what the store holds is shown.
const maxKept = 10_000

// ErrPartition says that the keys of a topic are not where Kafka's own clients put them.
var ErrPartition = errors.New("the topic's keys are not spread as Kafka's own clients spread them")

// NewAudit begins. partitions is the number that the topic's keys are hashed over; 1 where they are not spread in that way: then Should takes all
// states at once. inexact is that the store cannot be read at one moment.
func NewAudit(p fold.Projection, partitions int32, inexact bool, opts Options) *Audit {
	a := &Audit{plan: newPlan(p, p, partitions), opts: opts.withDefaults(), inexact: inexact, out: &Compared{}}
	a.spread = newSpread(a.plan.partitions)
	a.holds, a.should = newTally(a.side(false), a.spread), newTally(a.side(false), a.spread)
	a.pairs = newPairs(a.side(false), a.side(false), a.spread, nil)
	a.pairs.found = a.found
	a.pairs.changes = func(string, int) {}
	return a
}

// Holds takes a state of the store.
func (a *Audit) Holds(key string, st *fold.Stored) { a.holds.add(key, st) }

// Should takes all the states that should be there of a partition; it is called for each partition, also for those without any.
func (a *Audit) Should(partition int32, states iter.Seq2[string, *fold.Stored]) error {
	for key, st := range states {
		if at, _ := a.of(key); at != partition {
			return ErrPartition
		}
		a.should.add(key, st)
	}
	first := int(partition) * a.spread.buckets
	for n := first; n < first+a.spread.buckets; n++ {
		if a.holds.buckets[n] == a.should.buckets[n] {
			continue
		}
		if int64(len(a.pairs.all)) >= a.opts.MaxKeys {
			a.capped = true
			break
		}
		a.pairs.active[n] = true
	}
	for key, st := range states {
		if _, n := a.of(key); a.pairs.active[n] {
			a.kept++
			a.pairs.expect(key, st, a.inexact || a.kept <= maxKept)
		}
	}
	return nil
}

// Leave leaves a partition out of the results; Should is not called for it.
func (a *Audit) Leave(partition int32) {
	a.holds.parts[partition].states, a.holds.parts[partition].deleted = 0, 0
}

// Capped says that so many keys may differ that not all of them are looked at.
func (a *Audit) Capped() bool { return a.capped }

// Again says whether the store must be read once more: something differs.
func (a *Audit) Again() bool { return len(a.pairs.active) > 0 }

// HoldsAgain takes a state of the store in the second reading.
func (a *Audit) HoldsAgain(key string, st *fold.Stored) { a.pairs.see(key, st) }

func (a *Audit) found(key string, kind Kind, want *entry, got *fold.Stored) {
	var right *fold.Stored
	if want != nil {
		right = want.state
	}
	if a.inexact && kind != Doubled {
		a.open = append(a.open, Candidate{Key: key, Kind: kind, Want: right})
		return
	}
	a.Differs(key, kind, right, got)
	if d := len(a.out.Differences); d > 0 && want != nil && a.out.Differences[d-1].Key == key {
		a.out.Differences[d-1].Version, a.out.Differences[d-1].Since = want.version, timeAt(want.since)
	}
}

// Finish ends the second reading, and returns the keys that may have moved on. Each of them is then told by Differs or Moved, or is neither.
func (a *Audit) Finish() []Candidate {
	a.pairs.finish()
	open := a.open
	a.pairs, a.open = nil, nil
	return open
}

// Differs takes a difference: what should be there, and what the store holds; nil for nothing.
func (a *Audit) Differs(key string, kind Kind, want, got *fold.Stored) {
	if a.out.Different++; len(a.out.Differences) >= a.opts.Examples {
		return
	}
	d := a.difference(key, kind, got, want)
	if right := cmp.Or(want, got); right != nil {
		d.Version, d.Since = right.Version, right.Time
	}
	a.out.Differences = append(a.out.Differences, d)
}

// Moved takes a key that was found to be right at a later version.
func (a *Audit) Moved() { a.out.Moved++ }

// Kind says how two states of a key differ; "" if they do not.
func (a *Audit) Kind(key string, want, got *fold.Stored) Kind {
	switch {
	case (want == nil || got == nil) && exists(want)+exists(got) == 0:
		return ""
	case got == nil:
		return Missing
	case want == nil:
		return Unexpected
	case want.Version != got.Version:
		return Version
	case a.side(false).digest(key, want) != a.side(false).digest(key, got):
		return Columns
	}
	return ""
}

// Result returns what was found.
func (a *Audit) Result() *Compared {
	a.out.Old, a.out.New = a.holds.sides(a.should), a.should.sides(a.holds)
	slices.SortFunc(a.out.Differences, func(x, y Difference) int { return cmp.Compare(x.Key, y.Key) })
	return a.out
}
