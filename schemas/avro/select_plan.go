package avro

import (
	"slices"
	"strings"
	"time"
)

// Bounds of what a Selection plans; beyond them Decode does the work.
const (
	maxHeight = 32     // levels of nesting
	maxNodes  = 10_000 // types compared with each other
)

// planSelection plans how the fields are read. It is not ok if there is a type that the nodes do not cover: one that contains
// itself, or items that take no bytes.
func planSelection(c *Codec, slots []int) (steps []selectStep, fills []selectFill, ok bool) {
	np := &nodePlanner{made: map[nodeKey]*node{}}
	if c.writer == nil {
		for i := range c.root.fields {
			n := np.node(c.root.fields[i].plan, false)
			if n == nil {
				return nil, nil, false
			}
			steps = append(steps, selectStep{n, slots[i]})
		}
		return steps, nil, true
	}
	return np.resolved(c, slots)
}

// resolved plans for data of another schema than the reader's. It covers what changes most: fields that came, went or moved, numbers that were
// widened without loss, and values that became nullable. Aliases, unions and everything else are Decode's.
func (np *nodePlanner) resolved(c *Codec, slots []int) (steps []selectStep, fills []selectFill, ok bool) {
	if strings.Contains(c.schema.Text, `"aliases"`) {
		return nil, nil, false
	}
	written := map[string]bool{}
	for i := range c.writer.fields {
		w := &c.writer.fields[i]
		written[w.name] = true
		st := selectStep{node: np.node(w.plan, false), slot: -1}
		if j, has := c.root.index[w.name]; has {
			st.slot = slots[j]
			if !readsAs(w.plan, c.root.fields[j].plan) {
				return nil, nil, false
			}
		}
		if st.node == nil {
			return nil, nil, false
		}
		steps = append(steps, st)
	}
	for j := range c.root.fields {
		r := &c.root.fields[j]
		if written[r.name] || slots[j] < 0 {
			continue
		}
		f := selectFill{np.node(r.plan, false), slots[j], r.fill}
		if f.node == nil || r.fill == nil {
			return nil, nil, false
		}
		probe := cursor{b: r.fill}
		if f.node.skip(&probe); probe.bad || len(probe.b) > 0 {
			return nil, nil, false
		}
		fills = append(fills, f)
	}
	return steps, fills, true
}

// readsAs says that what w wrote is, as it stands, what r reads.
func readsAs(w, r *plan) bool {
	left := maxNodes
	if sameType(w, r, &left) {
		return true
	}
	if value, ok := r.nullable(); ok && w.kind != Union {
		return readsAs(w, value)
	}
	return w.kind == Int && r.kind == Long || w.kind == Float && r.kind == Double
}

// sameType says that two types are one type. Unions of several types are never: a value of one branch may be read as another's.
func sameType(a, b *plan, left *int) bool {
	if *left--; *left < 0 {
		return false
	}
	if a.kind != b.kind || a.physical != b.physical || a.name != b.name || a.unit != b.unit || a.local != b.local ||
		a.precision != b.precision || a.scale != b.scale || a.size != b.size || a.null != b.null ||
		!slices.Equal(a.symbols, b.symbols) || len(a.fields) != len(b.fields) || len(a.branches) != len(b.branches) {
		return false
	}
	if _, nullable := a.nullable(); a.kind == Union && !nullable {
		return false
	}
	if (a.elem == nil) != (b.elem == nil) || a.elem != nil && !sameType(a.elem, b.elem, left) {
		return false
	}
	for i := range a.fields {
		if a.fields[i].name != b.fields[i].name || !sameType(a.fields[i].plan, b.fields[i].plan, left) {
			return false
		}
	}
	for i := range a.branches {
		if !sameType(a.branches[i], b.branches[i], left) {
			return false
		}
	}
	return true
}

// nodePlanner makes nodes of plans, each once.
type nodePlanner struct{ made map[nodeKey]*node }

// nodeKey tells the node of a type from that of the same type in a union, where Decode looks at values less closely.
type nodeKey struct {
	plan  *plan
	loose bool
}

// node returns nil for a type that is not covered.
func (np *nodePlanner) node(p *plan, loose bool) *node {
	key := nodeKey{p, loose}
	if n, ok := np.made[key]; ok {
		return n // nil as long as it is being made: the type contains itself
	}
	np.made[key] = nil
	n := np.make(p, loose)
	if n == nil || n.height > maxHeight {
		return nil
	}
	np.made[key] = n
	return n
}

func (np *nodePlanner) make(p *plan, loose bool) *node {
	switch p.kind {
	case Array, Map:
		return np.container(p, loose)
	case Record:
		return np.record(p, loose)
	case Union:
		return np.union(p, loose)
	}
	return leafNode(p, loose)
}

func (np *nodePlanner) container(p *plan, loose bool) *node {
	elem := np.node(p.elem, loose)
	switch {
	case elem == nil:
		return nil
	case p.kind == Map:
		return &node{op: opMap, elem: elem, least: 1 + elem.min, min: 1, height: elem.height + 1}
	case elem.min == 0:
		return nil
	}
	return &node{op: opArray, elem: elem, least: elem.min, min: 1, height: elem.height + 1}
}

func (np *nodePlanner) record(p *plan, loose bool) *node {
	n := &node{op: opRecord}
	for i := range p.fields {
		f := np.node(p.fields[i].plan, loose)
		if f == nil {
			return nil
		}
		n.names, n.fields = append(n.names, p.fields[i].name), append(n.fields, f)
		n.min, n.height = n.min+f.min, max(n.height, f.height)
	}
	n.height++
	if n.min == 0 {
		return nil // how often such a record can be read, no payload bounds
	}
	return n
}

func (np *nodePlanner) union(p *plan, loose bool) *node {
	if value, ok := p.nullable(); ok {
		elem := np.node(value, loose)
		if elem == nil {
			return nil
		}
		return &node{op: opNullable, elem: elem, null: p.null, min: 1, height: elem.height + 1}
	}
	n := &node{op: opUnion, min: 1}
	for _, b := range p.branches {
		branch := np.node(b, true)
		if branch == nil {
			return nil
		}
		n.branches, n.height = append(n.branches, branch), max(n.height, branch.height)
	}
	n.height++
	return n
}

// leafOps are the types without more to them.
var leafOps = map[Kind]node{
	Null: {op: opNull}, Bool: {op: opBool, min: 1}, Int: {op: opInt, min: 1}, Long: {op: opLong, min: 1},
	Float: {op: opFloat, min: 4}, Double: {op: opDouble, min: 8}, String: {op: opText, min: 1}, Date: {op: opDate, min: 1},
}

func leafNode(p *plan, loose bool) *node {
	if n, ok := leafOps[p.kind]; ok {
		return &n
	}
	fixed := p.physical == "fixed"
	n := &node{size: p.size, unit: p.unit, min: 1}
	if fixed {
		n.min = p.size
	}
	switch p.kind {
	case Bytes:
		n.op = opBytes
		if fixed {
			n.op = opFixed
		}
	case Enum:
		n.op = opEnum
		for _, s := range p.symbols {
			n.symbols = append(n.symbols, s)
		}
	case UUID:
		n.op = opUUIDText
		if fixed {
			n.op = opUUIDFixed
		} else if loose {
			n.op = opText
		}
	case TimeOfDay:
		n.op = opClockLong
		if p.physical == "int" {
			n.op = opClockInt
		}
	case Timestamp:
		if p.unit != time.Millisecond && p.unit != time.Microsecond && p.unit != time.Nanosecond {
			return nil
		}
		n.op = opTime
	case Decimal:
		if p.precision < 1 || p.scale < 0 {
			return nil
		}
		n.op, n.precision, n.scale, n.loose = opDecimal, p.precision, p.scale, loose
		if fixed {
			n.op = opDecimalFixed
		}
	default:
		return nil
	}
	return n
}
