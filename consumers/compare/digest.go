package compare

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// hash is the first half of a SHA-256.
type hash struct{ hi, lo uint64 }

func hashOf(b []byte) hash {
	h := sha256.Sum256(b)
	return hash{binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])}
}

// add adds mod 2^128.
func (h *hash) add(o hash) {
	var carry uint64
	h.lo, carry = bits.Add64(h.lo, o.lo, 0)
	h.hi, _ = bits.Add64(h.hi, o.hi, carry)
}

func (h hash) String() string { return fmt.Sprintf("%016x%016x", h.hi, h.lo) }

// side reads states as one of the two declarations has them. It belongs to one goroutine.
type side struct {
	*plan
	new     bool
	columns []projection.Column // those that must be equal
	numbers []int
	whole   bool // they are all columns, in their order
	values  []any
	buf     []byte
}

func (p *plan) side(isNew bool) *side {
	s := &side{plan: p, new: isNew}
	all := s.all()
	for _, m := range p.equal {
		n := s.number(m)
		s.numbers, s.columns = append(s.numbers, n), append(s.columns, all[n])
		s.whole = n == len(s.numbers)-1 && (s.whole || n == 0)
	}
	s.whole = s.whole && len(s.columns) == len(all)
	return s
}

func (s *side) all() []projection.Column {
	if s.new {
		return s.plan.new
	}
	return s.plan.old
}

func (s *side) number(m match) int {
	if s.new {
		return m.new
	}
	return m.old
}

// digest hashes what must be equal of a state. Where the declarations make states begin and end in different ways, that is not part of it.
func (s *side) digest(key string, st *fold.Stored) hash {
	b := s.buf[:0]
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(b, key...)
	if s.versions {
		b = binary.AppendVarint(b, st.Version)
	}
	switch {
	case s.existence:
	case !st.Exists:
		b = append(b, 0)
	default:
		b = append(b, 1)
		b = appendValues(b, s.columns, s.pick(st))
	}
	s.buf = b
	return hashOf(b)
}

// pick returns the values of the columns that must be equal.
func (s *side) pick(st *fold.Stored) []any {
	if s.whole {
		return st.Values
	}
	s.values = s.values[:0]
	for _, n := range s.numbers {
		s.values = append(s.values, valueAt(st, n))
	}
	return s.values
}

// valueAt is a value of a state; nil for one that is not there.
func valueAt(st *fold.Stored, n int) any {
	if st == nil || !st.Exists || n < 0 || n >= len(st.Values) {
		return nil
	}
	return st.Values[n]
}

// changes hashes each column that differs by declaration: 8 bytes a column. A value that is the same on both sides has the same hash although its column
// has another type.
func (s *side) changes(st *fold.Stored, into []uint64) []uint64 {
	for _, m := range s.plan.changed {
		v := valueAt(st, s.number(m))
		var column projection.Column
		if n := s.number(m); n >= 0 {
			column = s.all()[n]
		}
		into = append(into, hashOf(appendTold(s.buf[:0], column.Type, v)).hi)
	}
	if s.existence {
		into = append(into, exists(st))
	}
	return into
}

func exists(st *fold.Stored) uint64 {
	if st != nil && st.Exists {
		return 1
	}
	return 0
}

// appendValues is the exact form of values. What its column cannot hold, for somebody wrote it there, has a form of its own.
func appendValues(b []byte, columns []projection.Column, values []any) []byte {
	state, err := projection.EncodeState(columns, values)
	if err != nil {
		return fmt.Appendf(append(b, 0xff), "%d %v %#v", len(values), err, values)
	}
	return append(b, state...)
}
