package projection

import (
	"fmt"

	"cel.dev/cel-go/common/types"

	"github.com/millrace/millrace/schemas/avro"
)

// result is what is known of an expression's values when the declaration is loaded.
type result struct {
	// known says that typ is the type of every value but null.
	known bool
	typ   Type
	// null says that there is no value but null.
	null bool
	// decimals says that the values are decimals of no fixed precision.
	decimals bool
	// refused says why no column can hold such a value.
	refused string
}

// String describes the result for a message.
func (r result) String() string {
	switch {
	case r.known:
		return r.typ.String()
	case r.null:
		return "null"
	case r.decimals:
		return "a decimal of no fixed precision"
	}
	return "a value of any type"
}

func known(k Kind) result { return result{known: true, typ: Type{Kind: k}} }

// resultOf tells the column type from CEL's.
func resultOf(t *types.Type) result {
	switch t.Kind() {
	case types.BoolKind:
		return known(Bool)
	case types.IntKind, types.UintKind:
		return known(Int)
	case types.DoubleKind:
		return known(Float)
	case types.StringKind:
		return known(Text)
	case types.BytesKind:
		return known(Bytes)
	case types.TimestampKind:
		return known(Timestamp)
	case types.DurationKind:
		return known(Duration)
	case types.NullTypeKind:
		return result{null: true}
	case types.ListKind:
		elem := resultOf(t.Parameters()[0])
		if elem.known {
			return result{known: true, typ: Type{Kind: List, Elem: &elem.typ}}
		}
		return result{refused: elem.refused}
	case types.MapKind:
		return known(JSON)
	case types.OpaqueKind:
		if t.TypeName() == "optional_type" {
			return resultOf(t.Parameters()[0])
		}
	case types.StructKind:
		switch t.TypeName() {
		case decimalType.TypeName():
			return result{decimals: true}
		case stateTypeName:
			return result{refused: "state is no value; name a column"}
		}
		return known(JSON)
	case types.TypeKind:
		return result{refused: "a type is no value; write string(type(x)) for its name"}
	}
	return result{}
}

// resultOfAvro tells the column type of a field.
func resultOfAvro(t avro.Type) result {
	switch t.Kind {
	case avro.Bool:
		return known(Bool)
	case avro.Int, avro.Long:
		return known(Int)
	case avro.Float, avro.Double:
		return known(Float)
	case avro.String, avro.Enum, avro.UUID:
		return known(Text)
	case avro.Bytes:
		return known(Bytes)
	case avro.Date:
		return known(Date)
	case avro.TimeOfDay:
		return known(Duration)
	case avro.Timestamp:
		return known(Timestamp)
	case avro.Decimal:
		if t.Precision < 1 || t.Precision > MaxPrecision || t.Scale < 0 || t.Scale > t.Precision {
			return result{decimals: true}
		}
		return result{known: true, typ: Type{Kind: Decimal, Precision: t.Precision, Scale: t.Scale}}
	case avro.Array:
		elem := known(JSON)
		if t.Elem != nil {
			if e := resultOfAvro(*t.Elem); e.known {
				elem = e
			}
		}
		return result{known: true, typ: Type{Kind: List, Elem: &elem.typ}}
	case avro.Map, avro.Record, avro.Union:
		return known(JSON)
	case avro.Null:
		return result{null: true}
	}
	return result{}
}

// fits says whether a column of type t can take the result. What depends on the value is left to Coerce; what can never be right,
// or only by losing something, is refused here.
func (r result) fits(t Type) error {
	switch {
	case r.null, t.Kind == JSON:
		return nil
	case r.decimals:
		if t.Kind != Decimal && t.Kind != Int {
			return fmt.Errorf("a decimal is no %s; write string(x) or double(x) if that is what you want", t)
		}
		return nil
	case !r.known:
		return nil
	}
	return fitsType(r.typ, t)
}

func fitsType(from, to Type) error {
	ok := from.Kind == to.Kind
	switch from.Kind {
	case Int:
		ok = ok || to.Kind == Decimal || to.Kind == Float
	case Text:
		ok = ok || to.Kind == Decimal || to.Kind == Date || to.Kind == Timestamp
	case Date:
		ok = ok || to.Kind == Timestamp
	case Timestamp:
		ok = ok || to.Kind == Date
	case Decimal:
		ok = ok || to.Kind == Int
	case JSON:
		ok = ok || to.Kind == List
	case List:
		if ok && from.Elem != nil && to.Elem != nil && to.Elem.Kind != JSON {
			return fitsType(*from.Elem, *to.Elem)
		}
	}
	switch {
	case ok:
		return nil
	case to.Kind == Decimal && from.Kind == Float:
		return fmt.Errorf("the column is %s and a float is not exact; keep the number as a decimal or text in the event", to)
	}
	return fmt.Errorf("the column is %s and the expression %s", to, from)
}
