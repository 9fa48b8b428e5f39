package avro

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// structKey names a Go type as a source of a record's fields.
type structKey struct {
	plan *plan
	typ  reflect.Type
}

// structPlan says which of a struct's fields is which field of the record, in the record's order.
type structPlan struct {
	fields []structField
	err    *FieldError // without Schema and the path to the struct
}

type structField struct {
	index    []int // nil: the struct does not have the field
	omitZero bool
}

func isStruct(v any) bool { return reflect.ValueOf(v).Kind() == reflect.Struct }

func (w *writer) recordStruct(dst []byte, p *plan, v any) (_ []byte, err error) {
	r := reflect.ValueOf(v)
	sp := w.codec.structPlan(structKey{p, r.Type()})
	if sp.err != nil {
		w.push(sp.err.Field, 0)
		return dst, w.fail(sp.err.Reason)
	}
	for i, sf := range sp.fields {
		f := &p.fields[i]
		value, given := fieldValue(r, sf)
		if dst, err = w.field(dst, f, value, given); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// fieldValue reads a field of a struct. It is not given if the struct lacks it, if it stands in an embedded struct that
// is nil, or if it is zero and tagged omitzero.
func fieldValue(r reflect.Value, sf structField) (any, bool) {
	if sf.index == nil {
		return nil, false
	}
	f, err := r.FieldByIndexErr(sf.index)
	if err != nil {
		return nil, false
	}
	if sf.omitZero && isZero(f) {
		return nil, false
	}
	return f.Interface(), true
}

func isZero(f reflect.Value) bool {
	if z, ok := f.Interface().(interface{ IsZero() bool }); ok {
		return (f.Kind() == reflect.Pointer && f.IsNil()) || z.IsZero()
	}
	return f.IsZero()
}

func (c *Codec) structPlan(key structKey) *structPlan {
	if sp, ok := c.structs.Load(key); ok {
		return sp.(*structPlan)
	}
	sp := planStruct(key.plan, key.typ)
	c.structs.Store(key, sp)
	return sp
}

func planStruct(p *plan, typ reflect.Type) *structPlan {
	sp := &structPlan{fields: make([]structField, len(p.fields))}
	sp.add(p, typ, nil)
	return sp
}

// add takes over the fields of a struct, and those of structs that are embedded in it or tagged inline.
func (sp *structPlan) add(p *plan, typ reflect.Type, at []int) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options := tagOf(f)
		if name == "-" || sp.err != nil {
			continue
		}
		index := append(slices.Clone(at), i)
		if inner, ok := inlined(f, name, options); ok {
			sp.add(p, inner, index)
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		sp.set(p, typ, name, structField{index: index, omitZero: slices.Contains(options, "omitzero")})
	}
}

func (sp *structPlan) set(p *plan, typ reflect.Type, name string, sf structField) {
	i, known := p.index[name]
	switch {
	case !known:
		sp.err = &FieldError{Field: name, Reason: fmt.Sprintf(`is a field of %s and not of %s; leave it out with the tag avro:"-"`, typ, p.name)}
	case sp.fields[i].index != nil:
		sp.err = &FieldError{Field: name, Reason: fmt.Sprintf("is given by two fields of %s", typ)}
	default:
		sp.fields[i] = sf
	}
}

func tagOf(f reflect.StructField) (name string, options []string) {
	parts := strings.Split(f.Tag.Get("avro"), ",")
	return parts[0], parts[1:]
}

// inlined recognises a struct whose fields count as those of the struct around it.
func inlined(f reflect.StructField, name string, options []string) (reflect.Type, bool) {
	typ := f.Type
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || !(f.Anonymous && name == "" || slices.Contains(options, "inline")) {
		return nil, false
	}
	if f.Type.Kind() == reflect.Pointer && !f.IsExported() {
		return nil, false
	}
	return typ, true
}
