package projection

import (
	"fmt"
	"math/big"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// decimal is an exact number in expressions. It adds, subtracts, multiplies and compares with decimals only; there is no division,
// whose result need not be finite, and no silent way from or to a float.
type decimal struct{ r *big.Rat }

var decimalType = types.NewObjectType("decimal",
	traits.AdderType, traits.SubtractorType, traits.MultiplierType, traits.NegatorType, traits.ComparerType)

// decimalOptions declare the type's operators and conversions.
func decimalOptions() []cel.EnvOption {
	two := []*cel.Type{decimalType, decimalType}
	opts := []cel.EnvOption{
		cel.Function(operators.Add, cel.Overload("add_decimal_decimal", two, decimalType)),
		cel.Function(operators.Subtract, cel.Overload("subtract_decimal_decimal", two, decimalType)),
		cel.Function(operators.Multiply, cel.Overload("multiply_decimal_decimal", two, decimalType)),
		cel.Function(operators.Negate, cel.Overload("negate_decimal", two[:1], decimalType)),
		cel.Function("string", cel.Overload("decimal_to_string", two[:1], cel.StringType, convert(types.StringType))),
		cel.Function("double", cel.Overload("decimal_to_double", two[:1], cel.DoubleType, convert(types.DoubleType))),
		cel.Function("decimal",
			cel.Overload("string_to_decimal", []*cel.Type{cel.StringType}, decimalType, cel.UnaryBinding(decimalOf)),
			cel.Overload("int_to_decimal", []*cel.Type{cel.IntType}, decimalType, cel.UnaryBinding(decimalOf)),
			cel.Overload("decimal_to_decimal", two[:1], decimalType, cel.UnaryBinding(decimalOf)),
		),
	}
	for name, op := range map[string]string{
		"less": operators.Less, "less_equals": operators.LessEquals,
		"greater": operators.Greater, "greater_equals": operators.GreaterEquals,
	} {
		opts = append(opts, cel.Function(op, cel.Overload(name+"_decimal", two, cel.BoolType)))
	}
	return opts
}

func convert(to *types.Type) cel.OverloadOpt {
	return cel.UnaryBinding(func(v ref.Val) ref.Val { return v.ConvertToType(to) })
}

func decimalOf(v ref.Val) ref.Val {
	switch x := v.(type) {
	case decimal:
		return x
	case types.Int:
		return decimal{new(big.Rat).SetInt64(int64(x))}
	case types.String:
		r, err := ParseDecimal(string(x))
		if err != nil {
			return types.WrapErr(err)
		}
		return decimal{r}
	}
	return types.MaybeNoSuchOverloadErr(v)
}

// binary computes with another decimal and bounds the size of the result, which a fold could otherwise double again and again.
func (d decimal) binary(other ref.Val, f func(z, x, y *big.Rat) *big.Rat) ref.Val {
	o, ok := other.(decimal)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	z := f(new(big.Rat), d.r, o.r)
	if z.Num().BitLen() > 8*maxDecimalBytes || z.Denom().BitLen() > 8*maxDecimalBytes {
		return types.NewErr("the decimal has grown too long")
	}
	return decimal{z}
}

func (d decimal) Add(o ref.Val) ref.Val      { return d.binary(o, (*big.Rat).Add) }
func (d decimal) Subtract(o ref.Val) ref.Val { return d.binary(o, (*big.Rat).Sub) }
func (d decimal) Multiply(o ref.Val) ref.Val { return d.binary(o, (*big.Rat).Mul) }
func (d decimal) Negate() ref.Val            { return decimal{new(big.Rat).Neg(d.r)} }

func (d decimal) Compare(other ref.Val) ref.Val {
	o, ok := other.(decimal)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	return types.Int(d.r.Cmp(o.r))
}

func (d decimal) Equal(other ref.Val) ref.Val {
	o, ok := other.(decimal)
	return types.Bool(ok && d.r.Cmp(o.r) == 0)
}

func (d decimal) ConvertToNative(t reflect.Type) (any, error) {
	if reflect.TypeOf(d.r).AssignableTo(t) {
		return d.r, nil
	}
	return nil, fmt.Errorf("a decimal is no %s", t)
}

// ConvertToType upholds string(d), which is exact, and double(d), with which the author asks for the nearest float.
func (d decimal) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.StringType:
		return types.String(ratText(d.r))
	case types.DoubleType:
		f, _ := d.r.Float64()
		return types.Double(f)
	case types.TypeType:
		return decimalType
	}
	return types.NewErr("a decimal is no %s", t.TypeName())
}

func (d decimal) Type() ref.Type { return decimalType }
func (d decimal) Value() any     { return d.r }
