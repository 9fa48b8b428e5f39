package fold

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/consumers/projection"
)

// recent holds states of a partition's keys as the last commits left them, so that they need not be loaded. It belongs to the
// partition's lane.
//
// Promise 4: what it holds is what the store holds, for nobody but the owner of the epoch writes the keys of a partition. It takes
// in what a commit has stored and nothing else, and is dropped whenever that is in doubt: with each claim, with the release and with every
// batch that fails. An owner that was replaced and does not know it folds onto states of yesterday, and its commit is refused.
//
// States are held as bytes, which are fewer than values take, in slabs without pointers: the garbage collector has nothing to follow. Of a projection
// that always overwrites only versions are held. Two halves take turns: when the young one has half of the bytes it becomes the old one, and what was in the old one and
// was not asked for again is forgotten.
type recent struct {
	limit      atomic.Int64 // bytes, set by the Fold
	hash       func(key string) uint64
	columns    [][]projection.Column // by projection
	bare       []bool                // by projection: only versions are taken in, for no event so far needed more
	young, old half
	free       [][]byte // slabs to be used again
	entry      []byte   // room to make one
}

// half is a hash table of entries. Of two keys of one hash it knows the later.
type half struct {
	at    map[uint64]place
	slabs [][]byte
	bytes int64
}

// place is where an entry begins: the number of its slab, and the offset in it.
type place struct{ slab, offset uint32 }

// slabBytes is the size of a slab. A larger entry is not held.
const slabBytes = 256 << 10

// entryCost is about what an entry takes beside its bytes.
const entryCost = 40

var seed = maphash.MakeSeed()

func newRecent(projections []Projection) *recent {
	r := &recent{hash: func(key string) uint64 { return maphash.String(seed, key) }}
	for _, p := range projections {
		r.columns = append(r.columns, p.Columns())
		r.bare = append(r.bare, overwriter(p) != nil)
	}
	return r
}

// fill fills the cells of a key in, if it is known. Where the whole state is needed, and only its version is held, it is not.
func (r *recent) fill(key string, cells []cell, whole bool) bool {
	if r == nil {
		return false
	}
	h := r.hash(key)
	e := r.young.find(h, key)
	if e == nil {
		e = r.old.find(h, key)
	}
	return e != nil && r.decode(e, cells, whole)
}

// keepStates has whole states taken in from now on: events come that need them.
func (r *recent) keepStates() {
	if r != nil {
		clear(r.bare)
	}
}

// take takes over what a commit has stored.
func (r *recent) take(w *work) {
	half := r.limit.Load() / 2
	if half <= 0 {
		r.drop()
		return
	}
	for number, key := range w.keys {
		h := r.hash(key)
		delete(r.old.at, h) // what stands there is older, whichever key it is of
		e, ok := r.encode(key, w.of(number))
		if !ok || len(e) > slabBytes || int64(len(e)+entryCost) > half {
			delete(r.young.at, h)
			continue
		}
		if r.young.replace(h, key, e) {
			continue
		}
		if r.young.bytes+int64(len(e)+entryCost) > half {
			r.turn()
		}
		r.young.add(h, e, r.slab)
	}
}

// turn makes the young half the old one.
func (r *recent) turn() {
	r.free = r.old.slabs
	clear(r.old.at)
	r.young, r.old = half{at: r.old.at}, r.young
}

// slab is an empty one.
func (r *recent) slab() []byte {
	if n := len(r.free); n > 0 {
		s := r.free[n-1]
		r.free = r.free[:n-1]
		return s[:0]
	}
	return make([]byte, 0, min(slabBytes, max(r.limit.Load()/4, 1)))
}

// drop forgets everything.
func (r *recent) drop() { r.young, r.old, r.free = half{}, half{}, nil }

// find returns the entry of a key behind its head, nil if there is none.
func (h *half) find(hash uint64, key string) []byte {
	p, ok := h.at[hash]
	if !ok {
		return nil
	}
	b := h.slabs[p.slab][p.offset:]
	size, n := int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[8:]))
	if b = b[headBytes:size]; n != len(key) || string(b[:n]) != key {
		return nil
	}
	return b[n:]
}

// An entry: its size, the room that it has, the size of the key, four bytes each; the key; the states.
const headBytes = 12

// replace puts an entry where one of the same hash stands, if it fits there.
func (h *half) replace(hash uint64, key string, e []byte) bool {
	p, ok := h.at[hash]
	if !ok {
		return false
	}
	b := h.slabs[p.slab][p.offset:]
	room := binary.LittleEndian.Uint32(b[4:])
	if uint32(len(e)) > room {
		return false
	}
	binary.LittleEndian.PutUint32(e[4:], room)
	copy(b, e)
	return true
}

func (h *half) add(hash uint64, e []byte, slab func() []byte) {
	last := len(h.slabs) - 1
	if last < 0 || cap(h.slabs[last])-len(h.slabs[last]) < len(e) {
		s := slab()
		if cap(s) < len(e) {
			s = make([]byte, 0, len(e))
		}
		h.slabs = append(h.slabs, s)
		last++
	}
	if h.at == nil {
		h.at = map[uint64]place{}
	}
	h.at[hash] = place{uint32(last), uint32(len(h.slabs[last]))}
	h.slabs[last] = append(h.slabs[last], e...)
	h.bytes += int64(len(e) + entryCost)
}

// What is known of a state.
const (
	isKnown = 1 << iota // the store holds it
	isThere             // and it exists
	isBare              // no more than that and its version is held
)

// encode makes the entry of a key; false if a value cannot be held.
func (r *recent) encode(key string, cells []cell) ([]byte, bool) {
	b := append(append(r.entry[:0], make([]byte, headBytes)...), key...)
	for i := range cells {
		c := &cells[i]
		if !c.known {
			b = append(b, 0)
			continue
		}
		flags := byte(isKnown)
		if c.Exists {
			flags |= isThere
		}
		bare := r.bare[i] || c.Exists && c.Values == nil
		if bare {
			flags |= isBare
		}
		b = binary.AppendVarint(append(b, flags), c.Version)
		if bare {
			continue
		}
		b = binary.AppendVarint(b, c.Time.Unix())
		b = binary.AppendUvarint(b, uint64(c.Time.Nanosecond()))
		b = append(binary.AppendUvarint(b, uint64(len(c.EventID))), c.EventID...)
		if !c.Exists {
			continue
		}
		state, err := projection.EncodeState(r.columns[i], c.Values)
		if err != nil {
			return nil, false
		}
		b = append(binary.AppendUvarint(b, uint64(len(state))), state...)
	}
	r.entry = b
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[8:], uint32(len(key)))
	return b, true
}

// decode fills cells from an entry behind its key.
func (r *recent) decode(e []byte, cells []cell, whole bool) bool {
	for i := range cells {
		flags := e[0]
		e = e[1:]
		cells[i] = cell{}
		if flags == 0 {
			continue
		}
		s := Stored{Version: varint(&e)}
		if flags&isBare != 0 {
			s.Exists = flags&isThere != 0
			if whole && s.Exists {
				clear(cells)
				return false
			}
			cells[i] = cell{Stored: s, known: true, existed: s.Exists}
			continue
		}
		seconds, nanos := varint(&e), uvarint(&e)
		s.Time = time.Unix(seconds, int64(nanos)).UTC()
		s.EventID = string(run(&e))
		if flags&isThere != 0 {
			values, err := projection.DecodeState(r.columns[i], run(&e))
			if err != nil {
				clear(cells)
				return false
			}
			s.State = projection.State{Exists: true, Values: values}
		}
		cells[i] = cell{Stored: s, known: true, existed: s.Exists}
	}
	return true
}

// varint, uvarint and run take something off the front of an entry, which is as encode made it.
func varint(b *[]byte) int64 {
	x, n := binary.Varint(*b)
	*b = (*b)[n:]
	return x
}

func uvarint(b *[]byte) uint64 {
	x, n := binary.Uvarint(*b)
	*b = (*b)[n:]
	return x
}

func run(b *[]byte) []byte {
	n := uvarint(b)
	out := (*b)[:n]
	*b = (*b)[n:]
	return out
}
