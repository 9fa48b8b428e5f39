package schemas

import (
	"slices"
	"strings"
)

// maxTypeDepth bounds how deep types nest once references are replaced by what they name.
const maxTypeDepth = 48

// normaliser writes one schema in its normal form. The parts of the form are string (the name of a type), []any
// (a union) and object.
type normaliser struct {
	defs definitions
	// strict is set for catalogues: it refuses what would surprise an author, such as a logical type on the wrong level.
	strict bool
	done   map[string]bool // named types that the output defines already
	open   []string        // named types being defined, outermost first
	root   string
}

// scope is where the walk stands.
type scope struct {
	src       *source
	namespace string
	path      string // dotted path of fields
	depth     int
}

func (sc scope) field(name string) scope {
	if sc.path != "" {
		name = sc.path + "." + name
	}
	sc.path = name
	return sc
}

func (nz *normaliser) fail(sc scope, n *node, format string, args ...any) error {
	return sc.src.at(n, nz.root, sc.path, format, args...)
}

func (nz *normaliser) schema(n *node, sc scope) (any, error) {
	sc.depth++
	if sc.depth > maxTypeDepth {
		return nil, nz.fail(sc, n, "types nest deeper than %d levels", maxTypeDepth)
	}
	switch {
	case n.members != nil:
		return nz.object(n, sc)
	case n.list != nil:
		return nz.union(n, sc)
	}
	name, ok := n.text()
	if !ok {
		return nil, nz.fail(sc, n, "a type must be a name, an object or a list of types")
	}
	return nz.reference(n, name, sc)
}

func (nz *normaliser) union(n *node, sc scope) (any, error) {
	if len(n.list) == 0 {
		return nil, nz.fail(sc, n, "a union of no types")
	}
	branches := make([]any, 0, len(n.list))
	for _, item := range n.list {
		if item.list != nil {
			return nil, nz.fail(sc, item, "a union directly inside a union")
		}
		branch, err := nz.schema(item, sc)
		if err != nil {
			return nil, err
		}
		branches = append(branches, branch)
	}
	return branches, nil
}

// reference is the use of a type by its name. A named type is written out where it is used first.
func (nz *normaliser) reference(n *node, name string, sc scope) (any, error) {
	if slices.Contains(primitives, name) {
		return name, nil
	}
	if slices.Contains(namedKinds, name) || name == "array" || name == "map" {
		return nil, nz.fail(sc, n, `%q needs an object of its own: "type": {"type": %q, ...}`, name, name)
	}
	full := fullName(name, sc.namespace)
	def, ok := nz.defs[full]
	if !ok {
		return nil, nz.fail(sc, n, "unknown type %s", excerpt(full))
	}
	return nz.use(n, def, sc)
}

// use writes a named type: its definition at the first use, its name afterwards.
func (nz *normaliser) use(n *node, def *definition, sc scope) (any, error) {
	if i := slices.Index(nz.open, def.name); i >= 0 && nz.strict {
		cycle := append(slices.Clone(nz.open[i:]), def.name)
		return nil, nz.fail(sc, n, "the type contains itself: %s", strings.Join(cycle, " -> "))
	}
	if nz.done[def.name] {
		return def.name, nil
	}
	nz.done[def.name] = true
	nz.open = append(nz.open, def.name)
	outer := sc.namespace
	sc.src, sc.namespace = def.src, def.namespace
	out, err := nz.define(def, sc, outer)
	nz.open = nz.open[:len(nz.open)-1]
	return out, err
}

func (nz *normaliser) object(n *node, sc scope) (any, error) {
	t, ok := n.members["type"]
	if !ok {
		return nil, nz.fail(sc, n, `no "type"`)
	}
	if t.members != nil || t.list != nil {
		if len(n.keys) > 1 {
			return nil, nz.fail(sc, t, "attributes beside a type that is written out; they belong inside it")
		}
		return nz.schema(t, sc)
	}
	kind, ok := t.text()
	if !ok {
		return nil, nz.fail(sc, t, `"type" must be a name, an object or a list of types`)
	}
	switch {
	case slices.Contains(namedKinds, kind):
		def, err := describe(sc.src, n, sc.namespace)
		if err != nil {
			return nil, err
		}
		known, ok := nz.defs[def.name]
		if !ok || known.node != n {
			return nil, nz.fail(sc, n, "%s is defined where no type can be", def.name)
		}
		return nz.use(n, known, sc)
	case kind == "array":
		return nz.nested(n, "items", sc)
	case kind == "map":
		return nz.nested(n, "values", sc)
	}
	return nz.annotated(n, kind, sc)
}

// annotated is a type by its name with attributes, such as a logical type.
func (nz *normaliser) annotated(n *node, kind string, sc scope) (any, error) {
	out, err := nz.reference(n, kind, sc)
	if err != nil {
		return nil, err
	}
	rest := attributes(n, "type")
	if len(rest) == 0 {
		return out, nil
	}
	name, ok := out.(string)
	if !ok {
		return nil, nz.fail(sc, n, "attributes beside the name of a type; they belong to its definition")
	}
	return append(object{{"type", name}}, rest...), nil
}

func (nz *normaliser) nested(n *node, key string, sc scope) (any, error) {
	inner, ok := n.members[key]
	if !ok {
		return nil, nz.fail(sc, n, "%s %s has no %q", article(n.member("type")), n.member("type"), key)
	}
	elem, err := nz.schema(inner, sc)
	if err != nil {
		return nil, err
	}
	out := object{{"type", n.member("type")}, {key, elem}}
	return append(out, attributes(n, "type", key)...), nil
}
