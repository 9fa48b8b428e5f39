package avro

import (
	"slices"
	"strings"
)

// Selection decodes some fields of a record and leaves the values of the others unmade. Every byte is looked at all the same: a
// payload is refused exactly if Decode refuses it, with the same error, whatever is selected. It is safe for concurrent use.
//
// Decode is the authority. A Selection has a plan of its own for the types that it knows; what the plan does not cover, and every
// payload that it does not like, goes through Decode. See node.go for what is left to Decode.
type Selection struct {
	codec *Codec
	names []string
	slots []int // by number of the field: where its value stands, -1 for nowhere
	order []int // the slots in order of their names

	planned bool
	steps   []selectStep
	fills   []selectFill
}

// selectStep is one field as it was written.
type selectStep struct {
	node *node
	slot int // -1: only looked at
}

// selectFill is a field that only the reader has.
type selectFill struct {
	node *node
	slot int
	fill []byte // the binary of its default
}

// Select returns a Selection of the fields of the root record that have the given names; names that the schema does not have are
// left out.
func (c *Codec) Select(names ...string) *Selection {
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	return c.selection(func(name string) bool { return wanted[name] })
}

// SelectAll returns the Selection of all fields. It is made once.
func (c *Codec) SelectAll() *Selection {
	c.allOnce.Do(func() { c.all = c.selection(func(string) bool { return true }) })
	return c.all
}

func (c *Codec) selection(wanted func(string) bool) *Selection {
	s := &Selection{codec: c, slots: make([]int, len(c.root.fields))}
	for i := range c.root.fields {
		s.slots[i] = -1
		if name := c.root.fields[i].name; wanted(name) {
			s.slots[i] = len(s.names)
			s.names = append(s.names, name)
		}
	}
	for slot := range s.names {
		s.order = append(s.order, slot)
	}
	slices.SortFunc(s.order, func(a, b int) int { return strings.Compare(s.names[a], s.names[b]) })
	s.steps, s.fills, s.planned = planSelection(c, s.slots)
	return s
}

// Codec is the codec whose fields are selected.
func (s *Selection) Codec() *Codec { return s.codec }

// Names are the names of the selected fields, in the schema's order. The slice is shared: do not change it.
func (s *Selection) Names() []string { return s.names }

// ByName are the slots of the selected fields in the order of their names. The slice is shared: do not change it.
func (s *Selection) ByName() []int { return s.order }

// Slot says where, among the values of Append, the field with the given number stands: a number as in Codec.Fields. It is -1 for a
// field that is not selected.
func (s *Selection) Slot(field int) int { return s.slots[field] }

// Find looks a field up by its name. has says that the schema has such a field; slot is as of Slot.
func (s *Selection) Find(name string) (slot int, has bool) {
	i, has := s.codec.root.index[name]
	if !has {
		return -1, false
	}
	return s.slots[i], true
}

// Append decodes a payload and appends the values of the selected fields, in the order of Names, to dst. What Decode says of its
// values and errors holds here. After an error dst is returned as it was.
func (s *Selection) Append(dst []any, payload []byte) ([]any, error) {
	if s.planned && len(payload) <= MaxPayload {
		if out, ok := s.read(dst, payload); ok {
			return out, nil
		}
	}
	values, err := s.codec.Decode(payload)
	if err != nil {
		return dst, err
	}
	for _, name := range s.names {
		dst = append(dst, values[name])
	}
	return dst, nil
}

// Map makes a map of values that Append made.
func (s *Selection) Map(values []any) map[string]any {
	m := make(map[string]any, len(s.names))
	for i, name := range s.names {
		m[name] = values[i]
	}
	return m
}

// span is a text within a payload.
type span struct{ slot, from, to int }

// read follows the plan. It is not ok if the payload needs a second look.
func (s *Selection) read(dst []any, payload []byte) ([]any, bool) {
	base := len(dst)
	for range s.names {
		dst = append(dst, nil)
	}
	values := dst[base:]
	var few [16]span
	spans, size := few[:0], 0
	c := cursor{b: payload}
	for i := range s.steps {
		st := &s.steps[i]
		switch {
		case st.slot < 0:
			st.node.skip(&c)
		case st.node.op == opText && !c.bad:
			text := c.text()
			end := len(payload) - len(c.b)
			spans, size = append(spans, span{st.slot, end - len(text), end}), size+len(text)
		default:
			values[st.slot] = st.node.read(&c)
		}
		if c.bad {
			return dst[:base], false
		}
	}
	if len(c.b) > 0 {
		return dst[:base], false
	}
	texts(values, payload, spans, size)
	for i := range s.fills {
		f := &s.fills[i]
		values[f.slot] = f.node.read(&cursor{b: f.fill})
	}
	return dst, true
}

// texts makes the texts of one payload: they share their memory, and share none with the payload.
func texts(values []any, payload []byte, spans []span, size int) {
	if len(spans) == 0 {
		return
	}
	var b strings.Builder
	b.Grow(size)
	for _, sp := range spans {
		b.Write(payload[sp.from:sp.to])
	}
	all, at := b.String(), 0
	for _, sp := range spans {
		end := at + sp.to - sp.from
		values[sp.slot] = all[at:end]
		at = end
	}
}
