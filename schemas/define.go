package schemas

import (
	"regexp"
	"slices"
	"strings"
)

// definition is where a named type is defined.
type definition struct {
	src       *source
	node      *node
	name      string // in full
	kind      string // record, error, enum or fixed
	namespace string // of the type itself, and so of the names within it
}

// definitions are the named types of a text or of a whole folder, by full name.
type definitions map[string]*definition

var (
	primitives = []string{"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
	namedKinds = []string{"record", "error", "enum", "fixed"}
	namePart   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

const maxNameBytes = 512

// fullName applies Avro's rule for names: a dotted one is complete, another one takes its namespace.
func fullName(name, namespace string) string {
	if strings.Contains(name, ".") || namespace == "" {
		return name
	}
	return namespace + "." + name
}

func namespaceOf(full string) string {
	if i := strings.LastIndexByte(full, '.'); i >= 0 {
		return full[:i]
	}
	return ""
}

func legalName(full string) bool {
	if len(full) > maxNameBytes {
		return false
	}
	for part := range strings.SplitSeq(full, ".") {
		if !namePart.MatchString(part) {
			return false
		}
	}
	return true
}

// describe reads the name of the named type that n defines inside namespace.
func describe(src *source, n *node, namespace string) (*definition, error) {
	kind := n.member("type")
	nameNode, ok := n.members["name"]
	if !ok {
		return nil, src.at(n, "", "", "%s %s has no name", article(kind), kind)
	}
	name, ok := nameNode.text()
	if !ok || name == "" {
		return nil, src.at(nameNode, "", "", "the name of %s %s must be a string", article(kind), kind)
	}
	if ns, ok := n.members["namespace"]; ok {
		given, isText := ns.text()
		if !isText {
			return nil, src.at(ns, name, "", "the namespace must be a string")
		}
		namespace = given
	}
	full := fullName(name, namespace)
	if !legalName(full) {
		return nil, src.at(nameNode, "", "", "%q is no name: letters, digits and _ only, with dots between namespaces", excerpt(full))
	}
	if slices.Contains(primitives, full) || slices.Contains(namedKinds, full) || full == "array" || full == "map" {
		return nil, src.at(nameNode, "", "", "%q is the name of a type that Avro knows", full)
	}
	return &definition{src: src, node: n, name: full, kind: kind, namespace: namespaceOf(full)}, nil
}

// collect adds every named type that is defined in n.
func (defs definitions) collect(src *source, n *node, namespace string) error {
	for _, item := range n.list {
		if err := defs.collect(src, item, namespace); err != nil {
			return err
		}
	}
	if n.members == nil {
		return nil
	}
	if slices.Contains(namedKinds, n.member("type")) {
		return defs.add(src, n, namespace)
	}
	for _, key := range []string{"type", "items", "values"} {
		if inner, ok := n.members[key]; ok {
			if err := defs.collect(src, inner, namespace); err != nil {
				return err
			}
		}
	}
	return nil
}

func (defs definitions) add(src *source, n *node, namespace string) error {
	def, err := describe(src, n, namespace)
	if err != nil {
		return err
	}
	if old, twice := defs[def.name]; twice {
		return src.at(n, def.name, "", "defined twice, first in %s", old.place())
	}
	defs[def.name] = def
	fields, ok := n.members["fields"]
	if !ok {
		return nil
	}
	for _, f := range fields.list {
		if t, ok := f.members["type"]; ok {
			if err := defs.collect(src, t, def.namespace); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *definition) place() string {
	e := d.src.at(d.node, "", "", "")
	return strings.TrimSuffix(e.Error(), ": ")
}

func article(kind string) string {
	if kind == "enum" || kind == "error" {
		return "an"
	}
	return "a"
}

// excerpt keeps what a schema's author wrote short enough for a message.
func excerpt(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
