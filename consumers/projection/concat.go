package projection

import (
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// concat is a text put together of texts, as cache keys are: 'order:' + key. Whatever is not plain about its parts - a null, a field that is
// not there, a text so long that it costs too much - is CEL's to judge.
type concat struct {
	parts []evaluator
	cel   *program
}

const (
	maxParts  = 8
	maxConcat = 16 << 10 // bytes
)

func (c concat) eval(in *input) (any, error) {
	if text, ok := c.quick(in); ok {
		return text, nil
	}
	return c.cel.eval(in)
}

func (c concat) quick(in *input) (text string, ok bool) {
	var texts [maxParts]string
	size := 0
	for i, part := range c.parts {
		v, err := direct(part, in)
		if texts[i], ok = v.(string); err != nil || !ok {
			return "", false
		}
		if size += len(texts[i]); size > maxConcat {
			return "", false
		}
	}
	return strings.Join(texts[:len(c.parts)], ""), true
}

// concatOf recognises a sum of texts that need no evaluation; nil if it is none.
func (c *compiler) concatOf(e ast.Expr) []evaluator {
	if e.Kind() == ast.CallKind {
		call := e.AsCall()
		if call.FunctionName() != operators.Add || len(call.Args()) != 2 || call.IsMemberFunction() {
			return nil
		}
		left, right := c.concatOf(call.Args()[0]), c.concatOf(call.Args()[1])
		if left == nil || right == nil || len(left)+len(right) > maxParts {
			return nil
		}
		return append(left, right...)
	}
	form, result := c.direct(e)
	if form == nil || !result.known || result.typ.Kind != Text {
		return nil
	}
	return []evaluator{form}
}

// evaluate evaluates an expression. The usual forms are spelled out, so that for them the input need not leave the stack.
func evaluate(form evaluator, in *input) (any, error) {
	switch f := form.(type) {
	case constant, eventField, stateColumn, variable:
		return direct(form, in)
	case concat:
		if text, ok := f.quick(in); ok {
			return text, nil
		}
	}
	seen := *in
	v, err := form.eval(&seen)
	in.event = seen.event
	return v, err
}

// direct evaluates what needs no evaluation.
func direct(form evaluator, in *input) (any, error) {
	switch f := form.(type) {
	case constant:
		return f.value, nil
	case eventField:
		return f.eval(in)
	case stateColumn:
		return f.eval(in)
	case variable:
		return f.eval(in)
	}
	return nil, errNoValue
}
