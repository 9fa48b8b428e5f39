package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	// maxTextBytes bounds the text of a schema, as it is read and in its normal form.
	maxTextBytes = 1 << 20
	// maxJSONDepth bounds how deep lists and objects nest in a schema's text.
	maxJSONDepth = 256
)

// node is a JSON value that remembers where it stood.
type node struct {
	end     int              // offset just behind the value's first token
	scalar  any              // string, json.Number, bool or nil, unless list or members is set
	list    []*node          // not nil: an array
	members map[string]*node // not nil: an object
	keys    []string         // the object's keys in the order of the text
}

func (n *node) text() (string, bool) {
	s, ok := n.scalar.(string)
	return s, ok
}

// member returns an object's member as a string; "" if there is none or if it is no string.
func (n *node) member(key string) string {
	if m, ok := n.members[key]; ok {
		s, _ := m.text()
		return s
	}
	return ""
}

// source is a text being read, with the name of its file for messages.
type source struct {
	file string
	text []byte
}

// at makes an error that points at the line of n.
func (s *source) at(n *node, name, field, format string, args ...any) *Error {
	e := &Error{File: s.file, Name: name, Field: field, Reason: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line = s.line(n.end)
	}
	return e
}

func (s *source) line(offset int) int {
	return 1 + bytes.Count(s.text[:min(offset, len(s.text))], []byte{'\n'})
}

// parse reads the whole text as one JSON value. A key given twice is an error: readers differ in which one counts.
func (s *source) parse() (*node, error) {
	if len(s.text) > maxTextBytes {
		return nil, &Error{File: s.file, Reason: fmt.Sprintf("larger than the limit of %d bytes", maxTextBytes)}
	}
	s.text = bytes.TrimPrefix(s.text, []byte("\ufeff"))
	if !utf8.Valid(s.text) {
		return nil, &Error{File: s.file, Reason: "not UTF-8 text"}
	}
	if len(bytes.TrimSpace(s.text)) == 0 {
		return nil, &Error{File: s.file, Reason: "empty"}
	}
	dec := json.NewDecoder(bytes.NewReader(s.text))
	dec.UseNumber()
	root, err := s.value(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, &Error{File: s.file, Line: s.line(int(dec.InputOffset())), Reason: "text follows behind the schema"}
	}
	return root, nil
}

func (s *source) value(dec *json.Decoder, depth int) (*node, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, s.syntax(dec, err)
	}
	n := &node{end: int(dec.InputOffset())}
	if depth > maxJSONDepth {
		return nil, s.at(n, "", "", "nested deeper than %d levels", maxJSONDepth)
	}
	switch tok {
	case json.Delim('['):
		return n, s.elements(dec, n, depth)
	case json.Delim('{'):
		return n, s.pairs(dec, n, depth)
	}
	n.scalar = tok
	return n, nil
}

func (s *source) elements(dec *json.Decoder, n *node, depth int) error {
	n.list = []*node{}
	for dec.More() {
		item, err := s.value(dec, depth+1)
		if err != nil {
			return err
		}
		n.list = append(n.list, item)
	}
	return s.closing(dec)
}

func (s *source) pairs(dec *json.Decoder, n *node, depth int) error {
	n.members = map[string]*node{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return s.syntax(dec, err)
		}
		key, ok := tok.(string)
		if !ok {
			return &Error{File: s.file, Line: s.line(int(dec.InputOffset())), Reason: "not JSON: a key must be a string"}
		}
		value, err := s.value(dec, depth+1)
		if err != nil {
			return err
		}
		if _, twice := n.members[key]; twice {
			return s.at(value, "", "", "%q is given twice", key)
		}
		n.members[key] = value
		n.keys = append(n.keys, key)
	}
	return s.closing(dec)
}

func (s *source) closing(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return s.syntax(dec, err)
	}
	return nil
}

func (s *source) syntax(dec *json.Decoder, err error) error {
	e := &Error{File: s.file, Line: s.line(int(dec.InputOffset()))}
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Reason = "not JSON: the text ends too early"
	case errors.As(err, &syntax):
		e.Line = s.line(int(syntax.Offset))
		e.Reason = "not JSON: " + syntax.Error()
	default:
		e.Reason = "not JSON: " + strings.TrimPrefix(err.Error(), "json: ")
	}
	return e
}
