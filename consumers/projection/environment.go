package projection

import (
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"

	"github.com/millrace/millrace/schemas/avro"
)

const (
	// costLimit bounds one evaluation in CEL's units, about one a step. A column's expression takes tens; at the limit an evaluation
	// has run for some tens of milliseconds.
	costLimit = 1_000_000
	// maxExpression is the longest expression, in characters.
	maxExpression = 16 << 10
)

// baseEnvironment holds what every expression has: the standard functions, optional values, the string functions, decimals, and
// the variables that do not depend on the event's type. There is no clock and no randomness in it: a fold is deterministic.
var baseEnvironment = sync.OnceValues(func() (*cel.Env, error) {
	opts := []cel.EnvOption{
		cel.OptionalTypes(),
		ext.Strings(ext.StringsVersion(4)),
		cel.EnableMacroCallTracking(), // keeps the expression printable, for the digest
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(100),
		cel.ExpressionNodeLimit(10_000),
		cel.RegexProgramSizeLimit(10_000),
		cel.Variable("key", cel.StringType),
	}
	return cel.NewEnv(append(opts, decimalOptions()...)...)
})

// eventEnvironment is the environment of the expressions of one event type.
func eventEnvironment(eventType string, event []avro.Field, state []Column) (*cel.Env, error) {
	base, err := baseEnvironment()
	if err != nil {
		return nil, err
	}
	values := adapter{base.CELTypeAdapter()}
	return base.Extend(
		cel.CustomTypeProvider(newProvider(base.CELTypeProvider(), values, eventType, event, state)),
		cel.CustomTypeAdapter(values),
		cel.Variable("event", cel.ObjectType(eventType)),
		cel.Variable("state", cel.ObjectType(stateTypeName)),
		cel.Variable("version", cel.IntType),
		cel.Variable("time", cel.TimestampType),
		cel.Variable("type", cel.StringType),
	)
}

// stateEnvironment is the environment of cache keys: a key and its state.
func stateEnvironment(state []Column) (*cel.Env, error) {
	base, err := baseEnvironment()
	if err != nil {
		return nil, err
	}
	values := adapter{base.CELTypeAdapter()}
	return base.Extend(
		cel.CustomTypeProvider(newProvider(base.CELTypeProvider(), values, "@none", nil, state)),
		cel.CustomTypeAdapter(values),
		cel.Variable("state", cel.ObjectType(stateTypeName)),
	)
}
