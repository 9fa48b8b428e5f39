package conf

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Error says what is wrong with a configuration, and where. Its text is one line.
type Error struct {
	// File is the file's path as it was given.
	File string
	// Line is where the key stands, from 1; 0 where no line is known.
	Line int
	// Key is the dotted path of the key, for example "sinks.search.kind"; empty where none is known.
	Key string
	// Msg says what is wrong and, where it can, what to write instead.
	Msg string
	// Err is the cause, if there is one.
	Err error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Msg)
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf is an error about the value at a dotted key, with its line. A key that is not in the file (a default, a missing
// setting) gets the line of the nearest one above it.
func (f *File) Errorf(key, format string, args ...any) error {
	e := &Error{File: f.Path, Key: key, Msg: hide(fmt.Sprintf(format, args...), f.secrets)}
	if f.root == nil || len(f.root.Docs) == 0 || f.root.Docs[0].Body == nil {
		return e
	}
	node := f.root.Docs[0].Body
	for rest := key; node != nil && rest != ""; {
		var line int
		node, line, rest = step(node, rest)
		if line > 0 {
			e.Line = line
		}
	}
	return e
}

// without takes the secrets, and the cause, which may show them, out of a *Error of this package.
func (f *File) without(err error) error {
	var e *Error
	if len(f.secrets) == 0 || !errors.As(err, &e) {
		return err
	}
	return &Error{File: e.File, Line: e.Line, Key: e.Key, Msg: hide(e.Msg, f.secrets)}
}

// step goes down one level: to the value whose key is, or whose index is, the beginning of a dotted path. Keys may have dots
// themselves (topics do): the longest that fits is meant. It returns nil if there is none.
func step(n ast.Node, path string) (value ast.Node, line int, rest string) {
	longest := -1
	for _, pair := range pairs(n) {
		key := pair.Key.GetToken().Value
		if (path == key || strings.HasPrefix(path, key+".")) && len(key) > longest {
			longest = len(key)
			value, line, rest = pair.Value, pair.Key.GetToken().Position.Line, strings.TrimPrefix(path[longest:], ".")
		}
	}
	if s, ok := n.(*ast.SequenceNode); ok {
		index, below, _ := strings.Cut(path, ".")
		if i, err := strconv.Atoi(index); err == nil && i >= 0 && i < len(s.Values) {
			return s.Values[i], s.Values[i].GetToken().Position.Line, below
		}
	}
	return value, line, rest
}

func pairs(n ast.Node) []*ast.MappingValueNode {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}
	}
	return nil
}

func syntaxError(file string, err error) error {
	var se yaml.Error
	if errors.As(err, &se) && se.GetToken() != nil {
		return &Error{File: file, Line: se.GetToken().Position.Line, Msg: oneLine(se.GetMessage()), Err: err}
	}
	return &Error{File: file, Msg: oneLine(err.Error()), Err: err}
}

var (
	unknownField = regexp.MustCompile(`unknown field "(.*)"`)
	mismatch     = regexp.MustCompile(`^cannot unmarshal (.+) into Go (?:struct field .* of type|value of type) (\S+)$`)
)

// kinds are Go's words for what YAML has others for.
var kinds = map[string]string{"map[string]interface {}": "mapping", "[]interface {}": "list"}

func decodeError(file string, body ast.Node, dst any, err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil {
		if key, line := badDuration(body, reflect.TypeOf(dst), ""); line > 0 {
			return &Error{File: file, Line: line, Key: key, Msg: oneLine(err.Error()), Err: err}
		}
		return &Error{File: file, Msg: oneLine(err.Error()), Err: err}
	}
	pos := ye.GetToken().Position
	e := &Error{File: file, Line: pos.Line, Key: keyAt(body, pos.Offset), Msg: oneLine(ye.GetMessage()), Err: err}
	if unknownField.MatchString(e.Msg) {
		e.Msg = "unknown key"
	}
	if m := mismatch.FindStringSubmatch(e.Msg); m != nil {
		e.Msg = fmt.Sprintf("%s where %s is wanted", cmp.Or(kinds[m[1]], m[1]), m[2])
	}
	return e
}

// keyAt returns the dotted key whose key or scalar value begins at the given offset of the file.
func keyAt(n ast.Node, offset int) string {
	for _, pair := range pairs(n) {
		name := pair.Key.GetToken().Value
		if pair.Key.GetToken().Position.Offset == offset {
			return name
		}
		if below := keyAt(pair.Value, offset); below != "" {
			return name + "." + below
		}
		if pair.Value != nil && pair.Value.GetToken() != nil && pair.Value.GetToken().Position.Offset == offset {
			return name
		}
	}
	if s, ok := n.(*ast.SequenceNode); ok {
		for i, v := range s.Values {
			if below := keyAt(v, offset); below != "" {
				return fmt.Sprintf("%d.%s", i, below)
			}
			if v.GetToken().Position.Offset == offset {
				return fmt.Sprint(i)
			}
		}
	}
	return ""
}

func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.TrimSpace(s)
}
