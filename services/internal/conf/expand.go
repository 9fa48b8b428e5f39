package conf

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

var variable = regexp.MustCompile(`\$?\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}`)

// expand replaces variables in every scalar value below n. It works on the parsed tree, so that what a variable holds
// can never become YAML structure. A scalar that is nothing but one variable takes the variable's type (${PORT} can fill a
// number); everything else stays text.
func expand(file string, n ast.Node, lookup func(string) (string, bool)) error {
	return walkValues(n, "", func(key string, s *ast.StringNode) (ast.ScalarNode, error) {
		if !strings.Contains(s.Value, "${") {
			return nil, nil
		}
		text, err := substitute(s.Value, lookup)
		if err != nil {
			return nil, &Error{File: file, Line: s.GetToken().Position.Line, Key: key, Msg: err.Error()}
		}
		if variable.FindString(s.Value) == s.Value {
			if typed := typedScalar(text, s); typed != nil {
				return typed, nil
			}
		}
		s.Value = text
		s.Token.Value = text
		return nil, nil
	})
}

func substitute(s string, lookup func(string) (string, bool)) (string, error) {
	var missing error
	out := variable.ReplaceAllStringFunc(s, func(m string) string {
		if strings.HasPrefix(m, "$$") {
			return m[1:]
		}
		sub := variable.FindStringSubmatch(m)
		if v, ok := lookup(sub[1]); ok && (v != "" || sub[2] == "") {
			return v
		}
		if sub[2] == "" && missing == nil {
			missing = fmt.Errorf("environment variable %s is not set (set it, or write ${%s:-default})", sub[1], sub[1])
		}
		return sub[3]
	})
	return out, missing
}

// typedScalar reads text as a YAML number or boolean that is written as it would be printed (so 007 and 1.50 stay text where
// text is wanted); nil if it is neither.
func typedScalar(text string, at *ast.StringNode) ast.ScalarNode {
	f, err := parser.ParseBytes([]byte(text), 0)
	if err != nil || len(f.Docs) != 1 {
		return nil
	}
	var v ast.ScalarNode
	switch n := f.Docs[0].Body.(type) {
	case *ast.IntegerNode:
		v = n
	case *ast.FloatNode:
		v = n
	case *ast.BoolNode:
		v = n
	default:
		return nil
	}
	if fmt.Sprint(v.GetValue()) != text {
		return nil
	}
	v.GetToken().Position = at.Token.Position
	return v
}

// walkValues visits every string value below n; a non-nil result takes the value's place.
func walkValues(n ast.Node, key string, visit func(string, *ast.StringNode) (ast.ScalarNode, error)) error {
	child := func(name string, v ast.Node, put func(ast.Node)) error {
		path := name
		if key != "" {
			path = key + "." + name
		}
		if s, ok := v.(*ast.StringNode); ok {
			r, err := visit(path, s)
			if r != nil {
				put(r)
			}
			return err
		}
		return walkValues(v, path, visit)
	}
	for _, pair := range pairs(n) {
		if err := child(pair.Key.GetToken().Value, pair.Value, func(r ast.Node) { pair.Value = r }); err != nil {
			return err
		}
	}
	if seq, ok := n.(*ast.SequenceNode); ok {
		for i := range seq.Values {
			if err := child(fmt.Sprint(i), seq.Values[i], func(r ast.Node) { seq.Values[i] = r }); err != nil {
				return err
			}
		}
	}
	return nil
}
