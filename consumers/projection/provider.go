package projection

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/millrace/millrace/schemas/avro"
)

// stateTypeName is the CEL type of the variable state. It begins with a character no schema name can.
const stateTypeName = "@state"

// provider tells CEL the types of one event type's fields, those of its nested records, and those of the state's columns, so that
// a name that does not exist is an error when the declaration is loaded.
type provider struct {
	types.Provider // the standard types
	adapter        types.Adapter
	structs        map[string]map[string]*types.FieldType // by type name, by field name
}

// newProvider registers the root record of an event type under its name.
func newProvider(base types.Provider, a types.Adapter, eventType string, event []avro.Field, state []Column) *provider {
	p := &provider{Provider: base, adapter: a, structs: map[string]map[string]*types.FieldType{}}
	p.addRecord(eventType, event)
	p.addState(state)
	return p
}

// addRecord registers a record and the records in it. Nested ones are named by their path, since one Avro name can stand for a
// record with its fields and, inside itself, without.
func (p *provider) addRecord(name string, list []avro.Field) {
	record := make(map[string]*types.FieldType, len(list))
	for _, f := range list {
		record[f.Name] = &types.FieldType{
			Type:  p.celType(name+"."+f.Name, f.Type),
			IsSet: func(target any) bool { v, err := member(target, f.Name); return err == nil && v != nil },
			GetFrom: func(target any) (any, error) {
				v, err := member(target, f.Name)
				if err != nil {
					return nil, err
				}
				return valueOf(p.adapter, f.Type, v), nil
			},
		}
	}
	p.structs[name] = record
}

func (p *provider) addState(cols []Column) {
	record := make(map[string]*types.FieldType, len(cols))
	for i, c := range cols {
		get := func(target any) (any, error) {
			values, ok := target.([]any)
			if !ok || i >= len(values) {
				return nil, fmt.Errorf("state has no column %s", c.Name)
			}
			return values[i], nil
		}
		record[c.Name] = &types.FieldType{
			Type:    types.NewNullableType(celTypeOf(c.Type)),
			IsSet:   func(target any) bool { v, err := get(target); return err == nil && v != nil },
			GetFrom: get,
		}
	}
	p.structs[stateTypeName] = record
}

// member reads a field of a decoded record. A field of null is null. A field that the record does not have is an error: the event
// was then decoded with another schema than the projection was made for.
func member(target any, name string) (any, error) {
	m, ok := target.(map[string]any)
	if !ok {
		return nil, nil
	}
	v, ok := m[name]
	if !ok {
		return nil, missing(name)
	}
	return v, nil
}

// celType is the CEL type of an Avro type; path names the record type if there is one.
func (p *provider) celType(path string, t avro.Type) *types.Type {
	ct := types.DynType
	switch t.Kind {
	case avro.Bool:
		ct = types.BoolType
	case avro.Int, avro.Long:
		ct = types.IntType
	case avro.Float, avro.Double:
		ct = types.DoubleType
	case avro.String, avro.Enum, avro.UUID:
		ct = types.StringType
	case avro.Bytes:
		ct = types.BytesType
	case avro.Date, avro.Timestamp:
		ct = types.TimestampType
	case avro.TimeOfDay:
		ct = types.DurationType
	case avro.Decimal:
		ct = decimalType
	case avro.Array:
		ct = types.NewListType(p.elemType(path, t.Elem))
	case avro.Map:
		ct = types.NewMapType(types.StringType, p.elemType(path, t.Elem))
	case avro.Record:
		if len(t.Fields) > 0 {
			p.addRecord(path, t.Fields)
			ct = types.NewObjectType(path)
		}
	}
	if t.Nullable && ct != types.DynType {
		return types.NewNullableType(ct)
	}
	return ct
}

func (p *provider) elemType(path string, elem *avro.Type) *types.Type {
	if elem == nil {
		return types.DynType
	}
	return p.celType(path, *elem)
}

// celTypeOf is the CEL type of a column's values.
func celTypeOf(t Type) *types.Type {
	switch t.Kind {
	case Bool:
		return types.BoolType
	case Int:
		return types.IntType
	case Float:
		return types.DoubleType
	case Text:
		return types.StringType
	case Bytes:
		return types.BytesType
	case Date, Timestamp:
		return types.TimestampType
	case Duration:
		return types.DurationType
	case Decimal:
		return decimalType
	case List:
		if t.Elem != nil {
			return types.NewListType(celTypeOf(*t.Elem))
		}
	}
	return types.DynType
}

// FindStructType says that a type name is known.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := p.structs[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames lists a record's fields.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	record, ok := p.structs[name]
	if !ok {
		return p.Provider.FindStructFieldNames(name)
	}
	return sortedNames(record), true
}

// FindStructFieldType returns how to read a field and its type.
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	record, ok := p.structs[name]
	if !ok {
		return p.Provider.FindStructFieldType(name, field)
	}
	ft, ok := record[field]
	return ft, ok
}

// NewValue refuses: expressions read records and make none.
func (p *provider) NewValue(name string, _ map[string]ref.Val) ref.Val {
	return types.NewErr("a value of type %s cannot be made in an expression; write a map", name)
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// listNames writes names for a message, not endlessly many.
func listNames(names []string) string {
	const most = 30
	if len(names) == 0 {
		return "none"
	}
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}
