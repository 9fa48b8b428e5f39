package projection

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// adapter gives CEL the decoded values. It differs from the standard one in decimals, which stay exact, and in maps, which are
// walked in order of their keys: a fold has one result, and Go's order of a map is another each time.
type adapter struct{ types.Adapter }

func (a adapter) NativeToValue(v any) ref.Val {
	switch x := v.(type) {
	case *big.Rat:
		return decimal{x}
	case []any:
		return types.NewDynamicList(a, x)
	case []ref.Val:
		return types.NewRefValList(a, x)
	case map[string]any:
		return sortedMap{types.NewStringInterfaceMap(a, x)}
	case map[ref.Val]ref.Val:
		return sortedMap{types.NewRefValMap(a, x)}
	}
	return a.Adapter.NativeToValue(v)
}

// sortLiterals makes the maps that an expression writes out sorted ones.
func sortLiterals(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	if c, ok := i.(interpreter.InterpretableConstructor); ok && c.Type() == types.MapType {
		return sortedLiteral{c}, nil
	}
	return i, nil
}

type sortedLiteral struct {
	interpreter.InterpretableConstructor
}

func (l sortedLiteral) Exec(f *interpreter.ExecutionFrame) ref.Val {
	v := l.InterpretableConstructor.Exec(f)
	if m, ok := v.(traits.Mapper); ok {
		return sortedMap{m}
	}
	return v
}

func (l sortedLiteral) Eval(vars interpreter.Activation) ref.Val {
	return l.Exec(interpreter.AsFrame(vars))
}

// sortedMap is a map that is walked in order of its keys.
type sortedMap struct{ traits.Mapper }

// Iterator walks the keys by type and then by value.
func (m sortedMap) Iterator() traits.Iterator {
	var keys []ref.Val
	for it := m.Mapper.Iterator(); it.HasNext() == types.True; {
		keys = append(keys, it.Next())
	}
	slices.SortFunc(keys, func(a, b ref.Val) int {
		if c := strings.Compare(a.Type().TypeName(), b.Type().TypeName()); c != 0 {
			return c
		}
		if cmp, ok := a.(traits.Comparer); ok {
			if n, ok := cmp.Compare(b).(types.Int); ok {
				return int(n)
			}
		}
		return 0
	})
	return types.NewRefValList(types.DefaultTypeAdapter, keys).Iterator()
}

// nativeOf turns the result of an expression into a value as decoded events hold them, ready for Coerce.
func nativeOf(v ref.Val, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	switch x := v.(type) {
	case types.Null:
		return nil, nil
	case types.Bool:
		return bool(x), nil
	case types.Int:
		return int64(x), nil
	case types.Uint:
		if uint64(x) > math.MaxInt64 {
			return nil, fmt.Errorf("%d does not fit 64 bits with a sign", uint64(x))
		}
		return int64(x), nil
	case types.Double:
		return float64(x), nil
	case types.String:
		return string(x), nil
	case types.Bytes:
		return []byte(x), nil
	case types.Timestamp:
		return x.UTC(), nil
	case types.Duration:
		return x.Duration, nil
	case decimal:
		return x.r, nil
	case record:
		return x.fields, nil
	case *types.Optional:
		if !x.HasValue() {
			return nil, nil
		}
		return nativeOf(x.GetValue(), depth+1)
	case traits.Mapper:
		return nativeMap(x, depth)
	case traits.Lister:
		return nativeList(x, depth)
	}
	return nil, fmt.Errorf("a result of type %s cannot be stored", v.Type().TypeName())
}

func nativeList(l traits.Lister, depth int) (any, error) {
	out := []any{}
	for it := l.Iterator(); it.HasNext() == types.True; {
		e, err := nativeOf(it.Next(), depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func nativeMap(m traits.Mapper, depth int) (any, error) {
	out := map[string]any{}
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, ok := key.(types.String)
		if !ok {
			return nil, fmt.Errorf("a map with keys of type %s cannot be stored; only texts name its values", key.Type().TypeName())
		}
		e, err := nativeOf(m.Get(key), depth+1)
		if err != nil {
			return nil, err
		}
		out[string(name)] = e
	}
	return out, nil
}
