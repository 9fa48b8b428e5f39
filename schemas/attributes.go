package schemas

import (
	"slices"
)

// object is a JSON object of the normal form, with its members in their order.
type object []member

type member struct {
	key   string
	value any // string, []any, object or *node
}

func (o object) get(key string) any {
	for _, m := range o {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// leading are the attributes that come first in the normal form, in this order; others follow sorted.
var leading = []string{"doc", "aliases", "symbols", "size", "default", "order", "logicalType", "precision", "scale"}

// attributes are the members of n that are kept as they are, without those named.
func attributes(n *node, without ...string) object {
	var keys []string
	for _, key := range n.keys {
		if !slices.Contains(without, key) {
			keys = append(keys, key)
		}
	}
	rank := func(key string) int {
		if i := slices.Index(leading, key); i >= 0 {
			return i
		}
		return len(leading)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if a < b {
			return -1
		}
		return 1
	})
	out := make(object, 0, len(keys))
	for _, key := range keys {
		out = append(out, member{key, n.members[key]})
	}
	return out
}

// define writes the definition of a named type. outer is the namespace around it: a type without a namespace inside
// one that has it must say so.
func (nz *normaliser) define(def *definition, sc scope, outer string) (any, error) {
	n := def.node
	short := def.name[len(def.namespace):]
	out := object{{"type", def.kind}}
	if def.namespace == "" {
		out = append(out, member{"name", short})
		if outer != "" {
			out = append(out, member{"namespace", ""})
		}
	} else {
		out = append(out, member{"name", short[1:]}, member{"namespace", def.namespace})
	}
	rest := attributes(n, "type", "name", "namespace", "fields", "aliases")
	aliases, err := nz.aliases(n, sc)
	if err != nil {
		return nil, err
	}
	if aliases != nil {
		out = append(out, member{"aliases", aliases})
	}
	if def.kind != "record" && def.kind != "error" {
		return append(out, rest...), nil
	}
	fields, err := nz.fields(def, sc)
	if err != nil {
		return nil, err
	}
	out = append(out, rest...)
	return append(out, member{"fields", fields}), nil
}

// aliases of a named type, in full: without a dot they are names in its namespace.
func (nz *normaliser) aliases(n *node, sc scope) ([]any, error) {
	given, ok := n.members["aliases"]
	if !ok {
		return nil, nil
	}
	if given.list == nil {
		return nil, nz.fail(sc, given, "aliases must be a list of names")
	}
	var out []any
	for _, item := range given.list {
		alias, ok := item.text()
		full := fullName(alias, sc.namespace)
		if !ok || !legalName(full) {
			return nil, nz.fail(sc, item, "an alias must be a name")
		}
		out = append(out, full)
	}
	return out, nil
}

func (nz *normaliser) fields(def *definition, sc scope) ([]any, error) {
	list, ok := def.node.members["fields"]
	if !ok || list.list == nil {
		return nil, nz.fail(sc, def.node, `%s has no list "fields"`, def.name)
	}
	seen := map[string]bool{}
	out := make([]any, 0, len(list.list))
	for i, n := range list.list {
		name := n.member("name")
		if !namePart.MatchString(name) || len(name) > maxNameBytes {
			return nil, nz.fail(sc, n, "field %d of %s has no legal name: letters, digits and _ only", i+1, def.name)
		}
		if seen[name] {
			return nil, nz.fail(sc.field(name), n, "a second field of this name")
		}
		seen[name] = true
		f, err := nz.field(n, name, sc.field(name))
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func (nz *normaliser) field(n *node, name string, sc scope) (object, error) {
	t, ok := n.members["type"]
	if !ok {
		return nil, nz.fail(sc, n, `no "type"`)
	}
	lifted, err := nz.misplaced(n, t, sc)
	if err != nil {
		return nil, err
	}
	typ, err := nz.schema(t, sc)
	if err != nil {
		return nil, err
	}
	without := []string{"name", "type"}
	if len(lifted) > 0 {
		typ = append(object{{"type", typ}}, lifted...)
		without = append(without, "logicalType", "precision", "scale")
	}
	return append(object{{"name", name}, {"type", typ}}, attributes(n, without...)...), nil
}

// misplaced finds a logical type that stands on the field instead of inside its type. Java ignores it there and others
// do not: in a catalogue that is an error; in a schema of others it is moved to where it was meant to be.
func (nz *normaliser) misplaced(n, t *node, sc scope) (object, error) {
	logical, ok := n.members["logicalType"]
	if !ok {
		return nil, nil
	}
	if nz.strict {
		return nil, nz.fail(sc, logical, `logicalType stands beside the type; write "type": {"type": ..., "logicalType": ...}`)
	}
	if name, ok := t.text(); !ok || !slices.Contains(primitives, name) {
		return nil, nil
	}
	var lifted object
	for _, m := range attributes(n) {
		if m.key == "logicalType" || m.key == "precision" || m.key == "scale" {
			lifted = append(lifted, m)
		}
	}
	return lifted, nil
}
