package avro

import (
	"fmt"
	"time"

	lib "github.com/twmb/avro"
)

// plan is a compiled type: how its values are written, and what Decode still has to do to them.
type plan struct {
	kind     Kind
	physical string // Avro's name of what is on the wire: "int", "bytes", "fixed", "record", ...
	name     string // full name of a record, enum or fixed

	unit  time.Duration // of Date, TimeOfDay and Timestamp, what one on the wire stands for
	local bool          // a Timestamp without a zone

	precision, scale int // of a Decimal
	size             int // of a fixed, in bytes

	symbols []string
	ordinal map[string]int // symbol -> number

	elem *plan // of Array and Map

	fields []fieldPlan
	index  map[string]int // field name -> number

	branches []*plan
	null     int // number of the null branch, -1 if there is none

	raw bool // what the library decodes has to be finished: changed, or looked at
}

type fieldPlan struct {
	name string
	*plan
	// fill is the binary of the field's default; nil if it has none.
	fill []byte
}

// nullable says that the type is a union of null and one other type, value.
func (p *plan) nullable() (value *plan, ok bool) {
	if p.kind == Union && p.null >= 0 && len(p.branches) == 2 {
		return p.branches[1-p.null], true
	}
	return nil, false
}

// tag is the name that selects a branch of a union in Avro's JSON.
func (p *plan) tag() string {
	if p.name != "" {
		return p.name
	}
	return p.physical
}

// planner compiles the types of one schema.
type planner struct {
	named map[string]*plan
	open  map[*plan]bool // records being compiled
	// recursive says that a record contains itself.
	recursive bool
}

func (pl *planner) plan(n *lib.SchemaNode) (*plan, error) {
	if p, ok := pl.named[n.Type]; ok {
		pl.recursive = pl.recursive || pl.open[p]
		return p, nil
	}
	p := &plan{physical: n.Type, null: -1, size: n.Size}
	switch n.Type {
	case "record", "error", "enum", "fixed":
		p.name = n.Name
		if n.Namespace != "" {
			p.name = n.Namespace + "." + n.Name
		}
		pl.named[p.name] = p
	}
	switch n.Type {
	case "record", "error":
		return p, pl.record(p, n)
	case "array", "map":
		return p, pl.container(p, n)
	case "union":
		return p, pl.union(p, n)
	case "enum":
		p.kind, p.symbols = Enum, n.Symbols
		p.ordinal = make(map[string]int, len(n.Symbols))
		for i, s := range n.Symbols {
			p.ordinal[s] = i
		}
		return p, nil
	}
	return p, p.leaf(n)
}

// physicalKinds are the kinds of types without a logical type.
var physicalKinds = map[string]Kind{
	"null": Null, "boolean": Bool, "int": Int, "long": Long, "float": Float, "double": Double,
	"string": String, "bytes": Bytes, "fixed": Bytes,
}

type logical struct {
	kind  Kind
	unit  time.Duration
	local bool
}

// logicals are the logical types that change what a value is, by "physical.logical". Any other combination counts for
// nothing, as Avro demands.
var logicals = map[string]logical{
	"int.date":                    {kind: Date, unit: 24 * time.Hour},
	"int.time-millis":             {kind: TimeOfDay, unit: time.Millisecond},
	"long.time-micros":            {kind: TimeOfDay, unit: time.Microsecond},
	"long.timestamp-millis":       {kind: Timestamp, unit: time.Millisecond},
	"long.timestamp-micros":       {kind: Timestamp, unit: time.Microsecond},
	"long.timestamp-nanos":        {kind: Timestamp, unit: time.Nanosecond},
	"long.local-timestamp-millis": {kind: Timestamp, unit: time.Millisecond, local: true},
	"long.local-timestamp-micros": {kind: Timestamp, unit: time.Microsecond, local: true},
	"long.local-timestamp-nanos":  {kind: Timestamp, unit: time.Nanosecond, local: true},
	"string.uuid":                 {kind: UUID},
	"fixed.uuid":                  {kind: UUID},
	"bytes.decimal":               {kind: Decimal},
	"fixed.decimal":               {kind: Decimal},
}

func (p *plan) leaf(n *lib.SchemaNode) error {
	kind, ok := physicalKinds[n.Type]
	if !ok {
		return fmt.Errorf("type %q is not known", n.Type)
	}
	p.kind = kind
	if l, ok := logicals[n.Type+"."+n.LogicalType]; ok && (n.Type != "fixed" || l.kind != UUID || n.Size == 16) {
		p.kind, p.unit, p.local = l.kind, l.unit, l.local
		p.precision, p.scale = n.Precision, n.Scale
	}
	switch p.kind {
	case Int, Float, String, UUID, Decimal, TimeOfDay:
		p.raw = true
	case Bytes:
		p.raw = n.Type == "fixed"
	}
	return nil
}

func (pl *planner) container(p *plan, n *lib.SchemaNode) (err error) {
	p.kind = Array
	inner := n.Items
	if n.Type == "map" {
		p.kind, inner = Map, n.Values
	}
	p.raw = true // holds for a type that contains itself, until its items are known
	p.elem, err = pl.plan(inner)
	if err == nil {
		p.raw = p.elem.raw || p.kind == Map // of a map, the keys are looked at
	}
	return err
}

func (pl *planner) union(p *plan, n *lib.SchemaNode) error {
	p.kind, p.raw = Union, true
	raw := false
	for i := range n.Branches {
		branch, err := pl.plan(&n.Branches[i])
		if err != nil {
			return err
		}
		if branch.kind == Null {
			p.null = i
		}
		raw = raw || branch.raw
		p.branches = append(p.branches, branch)
	}
	p.raw = raw
	return nil
}

func (pl *planner) record(p *plan, n *lib.SchemaNode) error {
	p.kind, p.physical, p.raw = Record, "record", true
	p.index = make(map[string]int, len(n.Fields))
	pl.open[p] = true
	defer delete(pl.open, p)
	raw := false
	for i := range n.Fields {
		f := &n.Fields[i]
		fp, err := pl.plan(&f.Type)
		if err != nil {
			return fmt.Errorf("field %s: %w", f.Name, err)
		}
		fill, err := defaultOf(f)
		if err != nil {
			return fmt.Errorf("field %s: default: %w", f.Name, err)
		}
		p.index[f.Name] = i
		p.fields = append(p.fields, fieldPlan{name: f.Name, plan: fp, fill: fill})
		raw = raw || fp.raw
	}
	p.raw = raw
	return nil
}

// defaultOf has the library write a field's default: it is what an empty record of only this field is filled with.
func defaultOf(f *lib.SchemaField) ([]byte, error) {
	if !f.HasDefault {
		return nil, nil
	}
	alone := lib.SchemaNode{Type: "record", Name: "millrace_default", Fields: []lib.SchemaField{*f}}
	s, err := alone.Schema()
	if err != nil {
		return nil, err
	}
	fill, err := s.AppendEncode([]byte{}, map[string]any{})
	if err != nil {
		return nil, err
	}
	return fill, nil
}

// typeOf describes a plan to those who type columns by it. open holds the records around it.
func typeOf(p *plan, open map[*plan]bool) Type {
	if value, ok := p.nullable(); ok {
		t := typeOf(value, open)
		t.Nullable = true
		return t
	}
	t := Type{Kind: p.kind, Precision: p.precision, Scale: p.scale, Symbols: p.symbols, Name: p.name}
	t.Nullable = p.kind == Null || p.kind == Union && p.null >= 0
	if p.elem != nil {
		elem := typeOf(p.elem, open)
		t.Elem = &elem
	}
	if p.kind == Record && !open[p] {
		open[p] = true
		t.Fields = fieldsOf(p, open)
		delete(open, p)
	}
	return t
}

func fieldsOf(p *plan, open map[*plan]bool) []Field {
	fields := make([]Field, 0, len(p.fields))
	for _, f := range p.fields {
		fields = append(fields, Field{Name: f.name, Type: typeOf(f.plan, open)})
	}
	return fields
}
