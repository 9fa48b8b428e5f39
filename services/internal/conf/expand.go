package conf

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

var variable = regexp.MustCompile(`\$?\$\{(?:file:([^-}][^}]*)|([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?)\}`)

// unclosed is a variable, or the name of a file, that was to be one: nobody means such text.
var unclosed = regexp.MustCompile(`^\$\{(file:|[A-Za-z_])[^}]*$`)

// secretName is how variables are called that hold a secret. One that is shorter than minSecret is hidden nowhere: it would be found in
// every other word.
var secretName = regexp.MustCompile(`(?i)pass|pwd|secret|token|credential|api_?key`)

const minSecret = 4

var errUnclosed = errors.New("begins with ${ and has no closing brace")

// expander replaces variables and the names of files in values.
type expander struct {
	file   string
	lookup func(string) (string, bool)
	// secrets are what was read from files, and from variables that are named like secrets: errors never show them.
	secrets []string
	files   int // how many of them are from files
}

// expand replaces variables in every scalar value below n. It works on the parsed tree, so that what a variable holds
// can never become YAML structure. A scalar that is nothing but one variable takes the variable's type (${PORT} can fill a
// number); everything else stays text, and so does what a file holds.
func (e *expander) expand(n ast.Node) error {
	return walkValues(n, "", func(key string, s *ast.StringNode) (ast.ScalarNode, error) {
		if !strings.Contains(s.Value, "${") {
			return nil, nil
		}
		read := e.files
		text, err := e.substitute(s.Value)
		if err == nil && unclosed.MatchString(s.Value) {
			err = errUnclosed
		}
		if err != nil {
			return nil, &Error{File: e.file, Line: s.GetToken().Position.Line, Key: key, Msg: err.Error()}
		}
		if e.files == read && variable.FindString(s.Value) == s.Value {
			if typed := typedScalar(text, s); typed != nil {
				return typed, nil
			}
		}
		s.Value = text
		s.Token.Value, s.Token.Origin = text, text // custom types such as durations are read from the latter
		return nil, nil
	})
}

func (e *expander) substitute(s string) (string, error) {
	var first error
	out := variable.ReplaceAllStringFunc(s, func(m string) string {
		if strings.HasPrefix(m, "$$") {
			return m[1:]
		}
		sub := variable.FindStringSubmatch(m)
		text, err := "", error(nil)
		if sub[1] != "" {
			text, err = e.secret(sub[1])
		} else {
			text, err = e.variable(sub[2], sub[3] != "", sub[4])
		}
		if first == nil {
			first = err
		}
		return text
	})
	return out, first
}

func (e *expander) variable(name string, has bool, other string) (string, error) {
	if v, ok := e.lookup(name); ok && (v != "" || !has) {
		if len(v) >= minSecret && secretName.MatchString(name) {
			e.secrets = append(e.secrets, v)
		}
		return v, nil
	}
	if !has {
		return "", fmt.Errorf("environment variable %s is not set (set it, or write ${%s:-default})", name, name)
	}
	return other, nil
}

// secret reads a file that a value names, relative to the folder of the configuration.
func (e *expander) secret(name string) (string, error) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(e.file), path)
	}
	text, err := readSecret(path)
	if err != nil {
		return "", fmt.Errorf("file %s: %w", path, err)
	}
	e.secrets, e.files = append(e.secrets, text), e.files+1
	return text, nil
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
