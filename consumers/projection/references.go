package projection

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/common/ast"

	"github.com/millrace/millrace/schemas/avro"
)

// references are the names an expression reads, found without its types.
type references struct {
	event [][]string // paths below event
	state []string   // columns
	// anyState says that the state is read at all.
	anyState bool
	// bound is a name of ours that the expression gives another meaning, as in list.map(event, ...).
	bound string
	// whole says that the event is used as a value, not only its fields.
	whole bool
	// made is the type of a record that the expression would make.
	made string
}

var variables = []string{"event", "state", "key", "version", "time", "type"}

func referencesOf(e ast.Expr) references {
	var refs references
	events := 0 // uses of event that are not the beginning of a path
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.ComprehensionKind {
			for _, name := range variables {
				if c := e.AsComprehension(); c.IterVar() == name || c.IterVar2() == name {
					refs.bound = name
				}
			}
		}
		if e.Kind() == ast.StructKind {
			refs.made = e.AsStruct().TypeName()
		}
		root, path, _ := access(e)
		refs.anyState = refs.anyState || root == "state"
		switch {
		case root == "event" && len(path) == 0:
			events++
		case root == "event" && len(path) == 1:
			events--
		}
		switch {
		case root == "event" && len(path) > 0:
			refs.event = append(refs.event, path)
		case root == "state" && len(path) > 0:
			refs.state = append(refs.state, path[0])
		}
	}))
	refs.whole = events > 0
	return refs
}

// access takes a chain of selections apart: event.address.city is event and [address city]. plain says that nothing in the chain
// asks for presence only, so that it reads a value.
func access(e ast.Expr) (root string, path []string, plain bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent(), nil, true
	case ast.SelectKind:
		s := e.AsSelect()
		root, path, plain = access(s.Operand())
		return root, append(path, s.FieldName()), plain && !s.IsTestOnly()
	case ast.CallKind: // event.?note
		c := e.AsCall()
		if c.FunctionName() == "_?._" && len(c.Args()) == 2 && c.Args()[1].Kind() == ast.LiteralKind {
			if name, ok := c.Args()[1].AsLiteral().Value().(string); ok {
				root, path, _ = access(c.Args()[0])
				return root, append(path, name), false
			}
		}
	}
	return "", nil, false
}

// lookup follows a path through records. It stops, successfully, at a value without declared fields.
func lookup(eventType string, list []avro.Field, path []string) (avro.Type, error) {
	var t avro.Type
	where := eventType
	for i, name := range path {
		found := false
		for _, f := range list {
			if found = f.Name == name; found {
				t = f.Type
				break
			}
		}
		if !found {
			return t, fmt.Errorf("%s has no field %q; its fields are %s", where, name, listNames(fieldNames(list)))
		}
		if t.Kind != avro.Record || len(t.Fields) == 0 {
			return t, nil
		}
		list = t.Fields
		where = eventType + "." + strings.Join(path[:i+1], ".")
	}
	return t, nil
}

func fieldNames(list []avro.Field) []string {
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = f.Name
	}
	return names
}
