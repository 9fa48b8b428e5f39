package schemas

import (
	"bytes"
	"encoding/json"
	"slices"
)

// render writes the normal form as JSON. Documentation belongs to the text and not to the fingerprint.
func render(v any, withDocs bool) []byte {
	return appendValue(nil, v, withDocs)
}

func appendValue(dst []byte, v any, withDocs bool) []byte {
	switch v := v.(type) {
	case object:
		if name, ok := v.bare(withDocs); ok {
			return appendScalar(dst, name)
		}
		dst = append(dst, '{')
		first := true
		for _, m := range v {
			if m.key == "doc" && !withDocs {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(appendScalar(dst, m.key), ':')
			dst = appendValue(dst, m.value, withDocs)
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, item, withDocs)
		}
		return append(dst, ']')
	case *node:
		return appendNode(dst, v)
	}
	return appendScalar(dst, v)
}

// bare finds that a type object says nothing but a type's name, once its documentation is left out.
func (o object) bare(withDocs bool) (string, bool) {
	if withDocs || len(o) == 0 || o[0].key != "type" {
		return "", false
	}
	for _, m := range o[1:] {
		if m.key != "doc" {
			return "", false
		}
	}
	name, ok := o[0].value.(string)
	return name, ok
}

// appendNode writes a value that has no meaning as a type (a default, a property): as it is, with sorted keys.
func appendNode(dst []byte, n *node) []byte {
	switch {
	case n.members != nil:
		dst = append(dst, '{')
		for i, key := range slices.Sorted(slices.Values(n.keys)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendScalar(dst, key), ':')
			dst = appendNode(dst, n.members[key])
		}
		return append(dst, '}')
	case n.list != nil:
		dst = append(dst, '[')
		for i, item := range n.list {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendNode(dst, item)
		}
		return append(dst, ']')
	}
	return appendScalar(dst, n.scalar)
}

func appendScalar(dst []byte, v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		// The scalars were made by the JSON decoder: there is none that the encoder refuses.
		panic("schemas: write " + err.Error())
	}
	return append(dst, bytes.TrimRight(buf.Bytes(), "\n")...)
}
