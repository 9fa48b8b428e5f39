package projection

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxFileBytes = 64 << 10 // a declaration is a page or two
	maxNesting   = 64       // brackets open at a time; the deepest declaration needs a few
	maxIndent    = 200      // columns
)

// scalar is a text of the file and where it stands.
type scalar struct {
	text      string
	line, col int
	// inner is how far the text's first character stands behind col: 1 after a quote; -1 for a block, whose lines stand below.
	inner int
}

func (s scalar) fail(file, where, reason string) error {
	return &Error{File: file, Line: s.line, Col: s.col, Where: where, Reason: reason}
}

// entry is a key of a mapping and its value.
type entry struct {
	key   scalar
	value ast.Node
}

// fields are the keys a mapping may have and what reads each.
type fields map[string]func(ast.Node) error

// reader turns YAML nodes into scalars. It accepts plain documents only: no anchors, no tags, no merge keys.
type reader struct{ file string }

func (r *reader) document(text []byte) (ast.Node, error) {
	if len(text) > maxFileBytes {
		return nil, &Error{File: r.file, Reason: fmt.Sprintf("is larger than %d KiB", maxFileBytes>>10)}
	}
	if err := r.shallow(text); err != nil {
		return nil, err
	}
	f, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, r.syntax(err)
	}
	docs := slices.DeleteFunc(f.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil })
	if len(docs) != 1 {
		return nil, &Error{File: r.file, Reason: fmt.Sprintf("holds %d YAML documents; write one projection a file", len(docs))}
	}
	return docs[0].Body, nil
}

// shallow refuses text whose brackets or indents nest so deeply that the YAML parser, which recurses and looks back, would take
// minutes over it. Brackets in texts count as well: no declaration comes near the limit.
func (r *reader) shallow(text []byte) error {
	depth := 0
	for i, line := range strings.Split(string(text), "\n") {
		depth += strings.Count(line, "[") + strings.Count(line, "{")
		indent := len(line) - len(strings.TrimLeft(line, " -?:"))
		if depth > maxNesting || indent > maxIndent {
			return &Error{File: r.file, Line: i + 1, Col: 1, Reason: "is nested too deeply"}
		}
		depth = max(0, depth-strings.Count(line, "]")-strings.Count(line, "}"))
	}
	return nil
}

// syntax gives the YAML parser's error the place and drops the excerpt it prints.
func (r *reader) syntax(err error) error {
	out := &Error{File: r.file, Reason: err.Error()}
	var ye yaml.Error
	if errors.As(err, &ye) {
		out.Reason = ye.GetMessage()
		if t := ye.GetToken(); t != nil && t.Position != nil {
			out.Line, out.Col = t.Position.Line, t.Position.Column
		}
	}
	return out
}

// fail reports what is wrong with a node.
func (r *reader) fail(n ast.Node, where, reason string) error {
	s := place(n)
	return s.fail(r.file, where, reason)
}

func place(n ast.Node) (s scalar) {
	if n == nil {
		return s
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		s.line, s.col = t.Position.Line, t.Position.Column
	}
	return s
}

// mapping reads a mapping whose keys are known: another key is an error that lists them.
func (r *reader) mapping(n ast.Node, where string, known fields) error {
	entries, err := r.entries(n, where)
	if err != nil {
		return err
	}
	for _, e := range entries {
		read, ok := known[e.key.text]
		if !ok {
			names := make([]string, 0, len(known))
			for name := range known {
				names = append(names, name)
			}
			slices.Sort(names)
			return e.key.fail(r.file, where, fmt.Sprintf("key %q is unknown; there are %s", e.key.text, strings.Join(names, ", ")))
		}
		if err := read(e.value); err != nil {
			return err
		}
	}
	return nil
}

// entries reads a mapping in the order of the file.
func (r *reader) entries(n ast.Node, where string) ([]entry, error) {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		return nil, r.fail(n, where, "must be a mapping")
	}
	out := make([]entry, 0, len(values))
	seen := map[string]bool{}
	for _, v := range values {
		key, err := r.scalar(v.Key, where)
		if err != nil {
			return nil, err
		}
		if seen[key.text] {
			return nil, key.fail(r.file, where, "key "+key.text+" stands here twice")
		}
		seen[key.text] = true
		out = append(out, entry{key, v.Value})
	}
	return out, nil
}

func (r *reader) pairs(n ast.Node, where string) ([]pair, error) {
	entries, err := r.entries(n, where)
	if err != nil {
		return nil, err
	}
	out := make([]pair, len(entries))
	for i, e := range entries {
		value, err := r.scalar(e.value, where+" "+e.key.text)
		if err != nil {
			return nil, err
		}
		out[i] = pair{e.key, value}
	}
	return out, nil
}

func (r *reader) list(n ast.Node, where string) ([]scalar, error) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return nil, r.fail(n, where, "must be a list")
	}
	out := make([]scalar, len(seq.Values))
	for i, v := range seq.Values {
		var err error
		if out[i], err = r.scalar(v, where); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// scalar reads a text. Numbers, truth values and null are taken as they are spelled: they are expressions, too.
func (r *reader) scalar(n ast.Node, where string) (scalar, error) {
	s := place(n)
	switch v := n.(type) {
	case *ast.StringNode:
		s.text = v.Value
		if t := v.Token.Type; t == token.SingleQuoteType || t == token.DoubleQuoteType {
			s.inner = 1
		}
	case *ast.LiteralNode:
		s.text, s.inner = v.Value.Value, -1
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		s.text = n.GetToken().Value
	case *ast.NullNode:
		if s.text = n.GetToken().Value; s.text != "null" {
			return s, r.fail(n, where, "is empty")
		}
	default:
		return s, r.fail(n, where, "must be a plain text")
	}
	s.text = strings.TrimSpace(s.text)
	if s.text == "" {
		return s, r.fail(n, where, "is empty")
	}
	return s, nil
}

func (r *reader) truth(n ast.Node, where string) (bool, error) {
	b, ok := n.(*ast.BoolNode)
	if !ok {
		return false, r.fail(n, where, "must be true")
	}
	return b.Value, nil
}
