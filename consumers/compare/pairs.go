package compare

import (
	"slices"

	"github.com/millrace/millrace/consumers/fold"
)

// pairs pairs the states of two sides in some buckets: first all that should be there (want), then those that are (got), then finish.
type pairs struct {
	*plan
	spread
	active map[int]bool
	keys   map[string]int // number of an entry
	all    []entry
	slab   []uint64 // changes of the entries, width each
	width  int
	want   *side
	got    *side
	tmp    []uint64
	// found takes a key that differs, with how; changed one whose column with the number i (of plan.changed, or behind the last for existence) differs.
	found   func(key string, kind Kind, want *entry, got *fold.Stored)
	changes func(key string, i int)
}

// entry is what is remembered of a state that should be there.
type entry struct {
	digest  hash
	version int64
	since   int64 // time of the last event, in nanoseconds
	exists  bool
	doubled bool         // it should be there once, and is twice on the side that is right
	seen    int          // on the other side
	state   *fold.Stored // where it is kept
}

func newPairs(want, got *side, at spread, active []int) *pairs {
	p := &pairs{plan: want.plan, spread: at, active: map[int]bool{}, keys: map[string]int{}, want: want, got: got, width: len(want.plan.changed)}
	if p.existence {
		p.width++
	}
	for _, n := range active {
		p.active[n] = true
	}
	return p
}

// expect remembers a state; keep has it kept whole.
func (p *pairs) expect(key string, st *fold.Stored, keep bool) {
	if _, n := p.of(key); !p.active[n] {
		return
	}
	if n, ok := p.keys[key]; ok {
		p.all[n].doubled = true
		return
	}
	e := entry{digest: p.want.digest(key, st), version: st.Version, since: nanosOf(st.Time), exists: st.Exists}
	if keep {
		e.state = st
	}
	p.keys[key] = len(p.all)
	p.all = append(p.all, e)
	p.slab = p.want.changes(st, p.slab)
}

// see compares a state that is there.
func (p *pairs) see(key string, st *fold.Stored) {
	if _, n := p.of(key); !p.active[n] {
		return
	}
	n, ok := p.keys[key]
	if !ok {
		p.unexpected(key, st)
		return
	}
	e := &p.all[n]
	e.seen++
	switch {
	case e.seen == 2:
		p.found(key, Doubled, e, st)
		return
	case e.seen > 2:
		return
	case p.versions && e.version != st.Version:
		p.found(key, Version, e, st)
		return
	case e.digest != p.got.digest(key, st):
		p.found(key, Columns, e, st)
		return
	}
	p.tmp = p.got.changes(st, p.tmp[:0])
	for i, c := range p.slab[n*p.width : (n+1)*p.width] {
		if c != p.tmp[i] {
			p.changes(key, i)
		}
	}
}

func (p *pairs) unexpected(key string, st *fold.Stored) {
	if p.existence {
		if st.Exists {
			p.changes(key, len(p.changed))
		}
		return
	}
	if st.Exists { // a state that was deleted is as good as none
		p.found(key, Unexpected, nil, st)
	}
}

// finish reports what was not seen.
func (p *pairs) finish() {
	for key, n := range p.keys {
		e := &p.all[n]
		switch {
		case e.seen == 0 && p.existence:
			if e.exists {
				p.changes(key, len(p.changed))
			}
		case e.seen == 0 && e.exists:
			p.found(key, Missing, e, nil)
		case e.seen == 1 && e.doubled:
			p.found(key, Doubled, e, nil)
		}
	}
}

// rounds cuts buckets into groups of which each has about so many states at most.
func rounds(a, b *tally, numbers []int, maxKeys int64) [][]int {
	var out [][]int
	n := int64(0)
	for _, number := range numbers {
		states := max(a.buckets[number].states, b.buckets[number].states)
		if len(out) == 0 || n+states > maxKeys {
			out, n = append(out, nil), 0
		}
		out[len(out)-1] = append(out[len(out)-1], number)
		n += states
	}
	return slices.Clip(out)
}
