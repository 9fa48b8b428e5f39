package projection

import (
	"errors"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/millrace/millrace/schemas/avro"
)

// record is a decoded record in an expression. CEL reads event.note through the provider and event.?note and dyn(event).note
// through the methods here; for all of them a field that is null is not set.
type record struct {
	adapter types.Adapter
	typ     avro.Type
	fields  map[string]any
}

var recordType = types.NewObjectType("record", traits.FieldTesterType, traits.IndexerType)

// valueOf turns a decoded value into CEL's by its Avro type, so that records deep in lists and maps stay records.
func valueOf(a types.Adapter, t avro.Type, v any) ref.Val {
	switch x := v.(type) {
	case map[string]any:
		switch {
		case t.Kind == avro.Record:
			return record{a, t, x}
		case t.Kind == avro.Map && t.Elem != nil:
			return sortedMap{types.NewStringInterfaceMap(elements{a, *t.Elem}, x)}
		}
	case []any:
		if t.Kind == avro.Array && t.Elem != nil {
			return types.NewDynamicList(elements{a, *t.Elem}, x)
		}
	}
	return a.NativeToValue(v)
}

// elements adapts the elements of a list or map, which are all of one Avro type.
type elements struct {
	types.Adapter
	typ avro.Type
}

func (e elements) NativeToValue(v any) ref.Val { return valueOf(e.Adapter, e.typ, v) }

// Get reads a field.
func (r record) Get(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	v, err := member(r.fields, string(name))
	if err != nil {
		return types.WrapErr(err)
	}
	for _, f := range r.typ.Fields {
		if f.Name == string(name) {
			return valueOf(r.adapter, f.Type, v)
		}
	}
	return r.adapter.NativeToValue(v)
}

// IsSet says whether a field has a value other than null.
func (r record) IsSet(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	return types.Bool(ok && r.fields[string(name)] != nil)
}

// Equal compares the fields.
func (r record) Equal(other ref.Val) ref.Val {
	o, ok := other.(record)
	if !ok {
		return types.False
	}
	return types.NewStringInterfaceMap(r.adapter, r.fields).Equal(types.NewStringInterfaceMap(o.adapter, o.fields))
}

func (r record) ConvertToNative(t reflect.Type) (any, error) {
	if reflect.TypeOf(r.fields).AssignableTo(t) {
		return r.fields, nil
	}
	return nil, errors.New("a record has no other form")
}

func (r record) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return recordType
	}
	return types.NewErr("a record is no %s", t.TypeName())
}

func (r record) Type() ref.Type { return recordType }
func (r record) Value() any     { return r.fields }

// stateValue is the variable state: columns are read off it, nothing else.
type stateValue struct {
	adapter types.Adapter
	columns []Column
	values  []any
}

var (
	stateType  = types.NewObjectType(stateTypeName, traits.FieldTesterType, traits.IndexerType)
	errNoValue = errors.New("state is no value; name a column")
)

func (s stateValue) column(index ref.Val) (any, bool) {
	name, ok := index.(types.String)
	i := indexOf(s.columns, string(name))
	if !ok || i < 0 {
		return nil, false
	}
	return s.values[i], true
}

// Get reads a column.
func (s stateValue) Get(index ref.Val) ref.Val {
	v, ok := s.column(index)
	if !ok {
		return types.NewErr("state has no column %v", index.Value())
	}
	return s.adapter.NativeToValue(v)
}

// IsSet says whether a column has a value other than null.
func (s stateValue) IsSet(index ref.Val) ref.Val {
	v, ok := s.column(index)
	return types.Bool(ok && v != nil)
}

func (s stateValue) ConvertToNative(reflect.Type) (any, error) { return nil, errNoValue }
func (s stateValue) ConvertToType(ref.Type) ref.Val            { return types.WrapErr(errNoValue) }
func (s stateValue) Equal(ref.Val) ref.Val                     { return types.WrapErr(errNoValue) }
func (s stateValue) Type() ref.Type                            { return stateType }
func (s stateValue) Value() any                                { return s.values }

// activation is what a program sees of an input.
type activation struct {
	*input
	program *program
}

// Parent says that there are no outer variables.
func (activation) Parent() cel.Activation { return nil }

// ResolveName gives CEL a variable.
func (a activation) ResolveName(name string) (any, bool) {
	switch name {
	case "event":
		return record{a.program.adapter, avro.Type{Kind: avro.Record, Fields: a.program.event}, a.fields()}, true
	case "state":
		return stateValue{a.program.adapter, a.program.columns, a.state}, true
	case "key":
		return a.key, true
	case "version":
		return a.version, true
	case "time":
		return a.time, true
	case "type":
		return a.typ, true
	}
	return nil, false
}
