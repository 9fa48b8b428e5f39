package fold

import (
	"math/big"
	"sync/atomic"
)

// recent holds states of a partition's keys as the last commits left them, so that they need not be loaded. It belongs to the
// partition's lane.
//
// Promise 4: what it holds is what the store holds, for nobody but the owner of the epoch writes the keys of a partition. It takes
// in what a commit has stored and nothing else, and is dropped whenever that is in doubt: with each claim, with the release and with every
// batch that fails. An owner that was replaced and does not know it folds onto states of yesterday, and its commit is refused.
//
// Two maps take turns: when the young one has half of the bytes it becomes the old one, and what was in the old one and is not asked
// for again is forgotten.
type recent struct {
	limit      atomic.Int64 // bytes, set by the Fold
	young, old map[string]*held
	bytes      int64 // of young
}

// held is what is known of a key.
type held struct {
	states []heldState // one a projection
	size   int64
}

type heldState struct {
	Stored
	known bool // the store holds it
}

// fill fills the cells of a key in, if it is known.
func (r *recent) fill(key string, cells []cell) bool {
	if r == nil {
		return false
	}
	h := r.get(key)
	if h == nil {
		return false
	}
	for i := range cells {
		cells[i] = cell{Stored: h.states[i].Stored, known: h.states[i].known, existed: h.states[i].Exists}
	}
	return true
}

func (r *recent) get(key string) *held {
	if h := r.young[key]; h != nil {
		return h
	}
	h := r.old[key]
	if h != nil {
		delete(r.old, key)
		r.add(key, h)
	}
	return h
}

func (r *recent) add(key string, h *held) {
	half := r.limit.Load() / 2
	if h.size > half {
		delete(r.young, key)
		return
	}
	if r.bytes+h.size > half {
		r.young, r.old, r.bytes = nil, r.young, 0
	}
	if r.young == nil {
		r.young = map[string]*held{}
	}
	r.young[key] = h
	r.bytes += h.size
}

// take takes over what a commit has stored.
func (r *recent) take(w *work) {
	if r.limit.Load() <= 0 {
		r.drop()
		return
	}
	for number, key := range w.keys {
		h := r.young[key]
		if h != nil {
			r.bytes -= h.size
		} else if h = r.old[key]; h != nil {
			delete(r.old, key)
		} else {
			h = &held{states: make([]heldState, len(w.projections))}
		}
		h.take(key, w.of(number))
		r.add(key, h)
	}
}

func (h *held) take(key string, cells []cell) {
	h.size = int64(len(key)) + 100
	for i := range cells {
		h.states[i] = heldState{cells[i].Stored, cells[i].known}
		h.size += 120 + int64(len(cells[i].EventID)) + sizeOfAll(cells[i].Values)
	}
}

// drop forgets everything.
func (r *recent) drop() { r.young, r.old, r.bytes = nil, nil, 0 }

func sizeOfAll(values []any) (n int64) {
	for _, v := range values {
		n += sizeOf(v)
	}
	return n
}

// sizeOf is about what a value takes in memory, in bytes.
func sizeOf(v any) int64 {
	switch x := v.(type) {
	case string:
		return 32 + int64(len(x))
	case []byte:
		return 48 + int64(len(x))
	case *big.Rat:
		return 112 + int64(len(x.Num().Bits())+len(x.Denom().Bits()))*8
	case []any:
		return 40 + sizeOfAll(x)
	case map[string]any:
		n := int64(64)
		for name, e := range x {
			n += 48 + int64(len(name)) + sizeOf(e)
		}
		return n
	}
	return 40
}
