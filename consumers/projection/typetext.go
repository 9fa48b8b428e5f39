package projection

import (
	"fmt"
	"strconv"
	"strings"
)

var kindNames = map[Kind]string{
	Bool: "bool", Int: "int", Float: "float", Text: "text", Bytes: "bytes", Date: "date", Timestamp: "timestamp",
	Duration: "duration", Decimal: "decimal", List: "list", JSON: "json",
}

// String returns the kind's name as declarations spell it.
func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return "kind " + strconv.Itoa(int(k))
}

// String returns the type as declarations spell it: text, decimal(12,2), list(int).
func (t Type) String() string {
	switch {
	case t.Kind == Decimal:
		return fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale)
	case t.Kind == List && t.Elem != nil:
		return "list(" + t.Elem.String() + ")"
	}
	return t.Kind.String()
}

// Equal says whether both types hold the same values.
func (t Type) Equal(o Type) bool { return t.String() == o.String() }

// ParseType reads a type as declarations spell it; see Type.String.
func ParseType(text string) (Type, error) { return parseType(text, 0) }

func parseType(text string, depth int) (Type, error) {
	name, args, hasArgs := strings.Cut(strings.TrimSpace(text), "(")
	name = strings.TrimSpace(name)
	if hasArgs {
		inner, ok := strings.CutSuffix(strings.TrimSpace(args), ")")
		if !ok || depth > maxDepth {
			return Type{}, unknownType(text)
		}
		args = inner
	}
	switch {
	case name == "list" && hasArgs:
		elem, err := parseType(args, depth+1)
		if err != nil {
			return Type{}, err
		}
		return Type{Kind: List, Elem: &elem}, nil
	case name == "decimal" && hasArgs:
		return parseDecimalType(args)
	case name == "list" || name == "decimal" || hasArgs:
		return Type{}, unknownType(text)
	}
	for kind, kindName := range kindNames {
		if kindName == name {
			return Type{Kind: kind}, nil
		}
	}
	return Type{}, unknownType(text)
}

func parseDecimalType(args string) (Type, error) {
	p, s, _ := strings.Cut(args, ",")
	precision, err1 := strconv.Atoi(strings.TrimSpace(p))
	scale, err2 := strconv.Atoi(strings.TrimSpace(s))
	if err1 != nil || err2 != nil {
		return Type{}, fmt.Errorf("decimal(%s): write precision and scale, for example decimal(12,2)", args)
	}
	if precision < 1 || precision > MaxPrecision || scale < 0 || scale > precision {
		return Type{}, fmt.Errorf("decimal(%s): want a precision of 1 to %d and a scale of 0 to the precision", args, MaxPrecision)
	}
	return Type{Kind: Decimal, Precision: precision, Scale: scale}, nil
}

func unknownType(text string) error {
	return fmt.Errorf("type %q is unknown; there are text, int, float, bool, decimal(p,s), timestamp, date, duration, bytes, json and list(type)", text)
}
