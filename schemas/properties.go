package schemas

import (
	"regexp"
	"slices"
	"strings"
)

// propertyPrefix begins every property that is meant for Millrace.
const propertyPrefix = "millrace."

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// properties reads millrace.topic and millrace.key from a root record into s and checks them.
func (nz *normaliser) properties(s *Schema, def *definition, form object) error {
	sc := scope{src: def.src}
	for _, key := range def.node.keys {
		if !strings.HasPrefix(key, propertyPrefix) {
			continue
		}
		value := def.node.members[key]
		text, ok := value.text()
		switch key {
		case TopicProperty:
			if !ok || !legalTopic(text) {
				return nz.fail(sc, value, `%s is no topic: letters, digits, ".", "_" and "-", at most 249, not starting with "__"`, key)
			}
			s.Topic = text
		case KeyProperty:
			if !ok {
				return nz.fail(sc, value, "%s must be the name of a field", key)
			}
			if err := nz.checkKey(text, value, form, sc); err != nil {
				return err
			}
			s.Key = text
		default:
			if nz.strict {
				return nz.fail(sc, value, "unknown property %s; known are %s and %s", excerpt(key), TopicProperty, KeyProperty)
			}
		}
	}
	return nil
}

func legalTopic(name string) bool {
	return topicName.MatchString(name) && name != "." && name != ".." && !strings.HasPrefix(name, "__")
}

func (nz *normaliser) checkKey(name string, at *node, form object, sc scope) error {
	fields, _ := form.get("fields").([]any)
	i := slices.IndexFunc(fields, func(f any) bool { return f.(object).get("name") == name })
	if i < 0 {
		return nz.fail(sc, at, "%s names the field %q, which the record does not have", KeyProperty, excerpt(name))
	}
	if !nz.fitsKey(fields[i].(object).get("type")) {
		return nz.fail(sc.field(name), at, "%s must name a string, enum, uuid, int or long that cannot be null", KeyProperty)
	}
	return nil
}

// fitsKey says whether the values of a type have one plain text each, which can be a record's key.
func (nz *normaliser) fitsKey(typ any) bool {
	logical := ""
	if o, ok := typ.(object); ok {
		typ = o.get("type")
		if n, ok := o.get("logicalType").(*node); ok {
			logical, _ = n.text()
		}
	}
	name, _ := typ.(string)
	if def, ok := nz.defs[name]; ok {
		name, logical = def.kind, def.node.member("logicalType")
	}
	switch name {
	case "string", "fixed":
		return logical == "uuid" || logical == "" && name == "string"
	case "int", "long":
		return logical == ""
	}
	return name == "enum"
}
