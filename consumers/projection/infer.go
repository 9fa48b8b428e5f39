package projection

import (
	"fmt"
	"slices"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

// eventType is a declared event with the fields of its schema.
type eventType struct {
	decl   eventDecl
	schema schemas.Fingerprint
	fields []avro.Field
}

// inference finds the type of each column: the declared one, or the one type that all its expressions agree on. A column can be
// set from another, so it goes round until nothing new is found; the order in which columns are found makes no difference, for in
// the end every expression is compiled against all columns and held to its own.
type inference struct {
	d      *declaration
	events []eventType
	names  []string // of all columns, in order
	types  map[string]Type
	// unknown is why a column's type is not told by an expression of its.
	unknown map[string]result
}

func (inf *inference) run() ([]Column, error) {
	inf.types, inf.unknown = map[string]Type{}, map[string]result{}
	for _, name := range inf.d.columnNames() {
		inf.names = append(inf.names, name.text)
	}
	for _, c := range inf.d.columns {
		t, err := ParseType(c.value.text)
		if err != nil {
			return nil, c.value.fail(inf.d.file, "columns: "+c.name.text, err.Error())
		}
		inf.types[c.name.text] = t
	}
	for found := true; found && len(inf.types) < len(inf.names); {
		var err error
		if found, err = inf.round(); err != nil {
			return nil, err
		}
	}
	return inf.columns(), inf.complete()
}

// columns lists those whose types are known, in order.
func (inf *inference) columns() []Column {
	var cols []Column
	for _, name := range inf.names {
		if t, ok := inf.types[name]; ok {
			cols = append(cols, Column{Name: name, Type: t})
		}
	}
	return cols
}

// round compiles the expressions of columns without a type as far as the columns they read have one.
func (inf *inference) round() (found bool, err error) {
	cols := inf.columns()
	next := map[string]Type{}
	for _, ev := range inf.events {
		c, err := newEventCompiler(inf.d.file, ev, cols)
		if err != nil {
			return false, err
		}
		for _, s := range ev.decl.set {
			if _, ok := inf.types[s.name.text]; ok {
				continue
			}
			r, err := inf.tell(c, ev, s)
			if err != nil {
				return false, err
			}
			if _, ok := next[s.name.text]; r.known && !ok {
				next[s.name.text] = r.typ
			}
		}
	}
	for name, t := range next {
		inf.types[name] = t
	}
	return len(next) > 0, nil
}

// tell returns what one expression says about its column; nothing as long as it reads a column of unknown type.
func (inf *inference) tell(c *compiler, ev eventType, s pair) (result, error) {
	where := setPlace(ev.decl.name.text, s.name.text)
	parsed, refs, err := c.parse(s.value, where, inf.names)
	if err != nil {
		return result{}, err
	}
	for _, name := range refs.state {
		if _, ok := inf.types[name]; !ok {
			return result{}, nil
		}
	}
	e, err := c.compile(s.value, where, parsed, refs)
	if err != nil {
		return result{}, err
	}
	if !e.result.null {
		inf.unknown[s.name.text] = e.result
	}
	return e.result, nil
}

// complete says which column has no type, and why.
func (inf *inference) complete() error {
	for _, name := range inf.d.columnNames() {
		if _, ok := inf.types[name.text]; ok {
			continue
		}
		why := "no expression tells its type"
		if r, ok := inf.unknown[name.text]; ok {
			why = "the expression gives " + r.String()
		}
		return name.fail(inf.d.file, "column "+name.text, fmt.Sprintf("%s; declare the type under columns, for example columns: {%s: %s}", why, name.text, inf.example(name.text)))
	}
	return nil
}

func (inf *inference) example(name string) string {
	if inf.unknown[name].decimals {
		return "decimal(12,2)"
	}
	return "text"
}

// agree holds an expression to its column's type. Where the type was inferred, it must be the very same: a column whose events
// differ needs a declared one.
func (inf *inference) agree(name string, e *expression, where string) error {
	t := inf.types[name]
	declared := slices.ContainsFunc(inf.d.columns, func(p pair) bool { return p.name.text == name })
	if declared {
		if err := e.result.fits(t); err != nil {
			return e.source.fail(inf.d.file, where, err.Error())
		}
		return nil
	}
	if e.result.null || e.result.known && e.result.typ.Equal(t) {
		return nil
	}
	return e.source.fail(inf.d.file, where, fmt.Sprintf("the expression gives %s, another one for this column %s; declare the type under columns", e.result, t))
}

func setPlace(event, column string) string { return "on " + event + ": set " + column }

func newEventCompiler(file string, ev eventType, cols []Column) (*compiler, error) {
	env, err := eventEnvironment(ev.decl.name.text, ev.fields, cols)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", file, ev.decl.name.text, err)
	}
	fields := ev.fields
	if fields == nil {
		fields = []avro.Field{}
	}
	return &compiler{file: file, env: env, eventType: ev.decl.name.text, event: fields, columns: cols}, nil
}
