package projection

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/millrace/millrace/schemas/avro"
)

// expression is a compiled expression in the cheapest form that evaluates it.
type expression struct {
	source scalar
	// text is the expression without the author's spacing, for the digest.
	text   string
	refs   references
	result result
	form   evaluator
}

// evaluator yields a value as decoded events hold them.
type evaluator interface {
	eval(in *input) (any, error)
}

type (
	constant   struct{ value any }
	eventField struct {
		path   []string
		number int // of path[0] in the event's schema
	}
	stateColumn struct{ index int }
	variable    struct{ name string }
	program     struct {
		cel.Program
		adapter types.Adapter
		event   []avro.Field
		columns []Column
	}
)

func (c constant) eval(*input) (any, error) { return c.value, nil }

// eval reads the field as CEL would: a field of null is null.
func (f eventField) eval(in *input) (any, error) {
	v, err := in.field(f.number, f.path[0])
	for _, name := range f.path[1:] {
		if err != nil {
			return nil, err
		}
		v, err = member(v, name)
	}
	return v, err
}

func (c stateColumn) eval(in *input) (any, error) { return in.state[c.index], nil }

func (v variable) eval(in *input) (any, error) {
	switch v.name {
	case "key":
		return in.key, nil
	case "version":
		return in.version, nil
	case "time":
		return in.time, nil
	case "type":
		return in.typ, nil
	}
	return in.ev.Fields(), nil
}

func (p *program) eval(in *input) (any, error) {
	out, _, err := p.Eval(activation{in, p})
	if err != nil {
		return nil, err
	}
	return nativeOf(out, 0)
}

// compiler compiles the expressions of one event type, or the cache keys.
type compiler struct {
	file      string
	env       *cel.Env
	eventType string
	event     []avro.Field
	columns   []Column
}

// parse reads the expression and makes sure that every field and column it names exists. all are the columns of the declaration,
// of which the compiler may know but some yet.
func (c *compiler) parse(src scalar, where string, all []string) (*cel.Ast, references, error) {
	parsed, iss := c.env.Parse(src.text)
	if iss.Err() != nil {
		return nil, references{}, c.issue(src, where, iss)
	}
	refs := referencesOf(parsed.NativeRep().Expr())
	if refs.bound != "" {
		return nil, refs, src.fail(c.file, where, "the name "+refs.bound+" has a meaning here; choose another for the elements")
	}
	if refs.made != "" {
		return nil, refs, src.fail(c.file, where, "an expression cannot make a record of type "+refs.made+"; write a map: {'name': value}")
	}
	for _, path := range refs.event {
		if c.event == nil {
			break // cache keys have no event: CEL says so
		}
		if _, err := lookup(c.eventType, c.event, path); err != nil {
			return nil, refs, src.fail(c.file, where, err.Error())
		}
	}
	known := map[string]bool{}
	for _, name := range all {
		known[name] = true
	}
	for _, name := range refs.state {
		if !known[name] {
			return nil, refs, src.fail(c.file, where, fmt.Sprintf("state has no column %q; the columns are %s", name, listNames(all)))
		}
	}
	return parsed, refs, nil
}

// compile checks a parsed expression and chooses its form.
func (c *compiler) compile(src scalar, where string, parsed *cel.Ast, refs references) (*expression, error) {
	checked, iss := c.env.Check(parsed)
	if iss.Err() != nil {
		return nil, c.issue(src, where, iss)
	}
	text, err := cel.AstToString(parsed)
	if err != nil {
		text = src.text // its own spelling is as good, only less forgiving
	}
	e := &expression{source: src, text: text, refs: refs}
	if e.form, e.result = c.direct(checked.NativeRep().Expr()); e.form != nil {
		return e, nil
	}
	if e.result = resultOf(checked.OutputType()); e.result.refused != "" {
		return nil, src.fail(c.file, where, e.result.refused)
	}
	prg, err := c.env.Program(checked, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptOptimize), cel.CustomDecoratorV2(sortLiterals))
	if err != nil {
		return nil, src.fail(c.file, where, err.Error())
	}
	whole := &program{prg, c.env.CELTypeAdapter(), c.event, c.columns}
	e.form = whole
	if parts := c.concatOf(checked.NativeRep().Expr()); parts != nil {
		e.form = concat{parts, whole}
	}
	return e, nil
}

// direct recognises what needs no evaluation: constants, variables, columns and fields. They are most of what projections hold.
func (c *compiler) direct(e ast.Expr) (evaluator, result) {
	if e.Kind() == ast.LiteralKind {
		if v, err := nativeOf(e.AsLiteral(), 0); err == nil {
			return constant{v}, resultOf(e.AsLiteral().Type().(*types.Type))
		}
		return nil, result{}
	}
	root, path, plain := access(e)
	switch {
	case !plain:
	case root == "event" && c.event != nil && len(path) == 0:
		return variable{root}, result{known: true, typ: Type{Kind: JSON}}
	case root == "event":
		return c.directField(path)
	case root == "state" && len(path) == 1:
		for i, col := range c.columns {
			if col.Name == path[0] {
				return stateColumn{i}, result{known: true, typ: col.Type}
			}
		}
	case len(path) == 0:
		if t, ok := variableTypes[root]; ok {
			return variable{root}, result{known: true, typ: t}
		}
	}
	return nil, result{}
}

var variableTypes = map[string]Type{"key": {Kind: Text}, "version": {Kind: Int}, "time": {Kind: Timestamp}, "type": {Kind: Text}}

// directField takes a path that ends where the records' declared fields do; what goes on into a map is CEL's.
func (c *compiler) directField(path []string) (evaluator, result) {
	list := c.event
	var t avro.Type
	for i, name := range path {
		if i > 0 && (t.Kind != avro.Record || len(t.Fields) == 0) {
			return nil, result{}
		}
		var err error
		if t, err = lookup(c.eventType, list, []string{name}); err != nil {
			return nil, result{}
		}
		list = t.Fields
	}
	f := eventField{path: path}
	for i := range c.event {
		if c.event[i].Name == path[0] {
			f.number = i
		}
	}
	return f, resultOfAvro(t)
}

// issue reports the first thing CEL found wrong, at its place in the file.
func (c *compiler) issue(src scalar, where string, iss *cel.Issues) error {
	first := iss.Errors()[0]
	reason := strings.ReplaceAll(first.Message, " (in container '')", "")
	reason, _, _ = strings.Cut(reason, " expecting {") // every token there is
	if strings.HasPrefix(reason, "undeclared reference") {
		reason += "; the variables are " + c.variables()
	}
	if strings.Contains(reason, "no matching overload") && strings.Contains(reason, "decimal") {
		reason += "; decimals add, subtract, multiply and compare with decimals only: write decimal(x) for whole numbers and texts"
	}
	at := src
	if src.inner >= 0 && first.Location.Line() == 1 {
		at.col += src.inner + first.Location.Column()
	}
	return at.fail(c.file, where, reason)
}

func (c *compiler) variables() string {
	if c.event == nil {
		return "key, state"
	}
	return strings.Join(variables, ", ")
}
