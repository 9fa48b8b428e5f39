package schemas

import (
	"strconv"
	"strings"
)

// Error says what is wrong with one schema, and where. Everything that can be wrong with a schema's text, with a file
// of a catalogue or between two of them is reported as an *Error.
type Error struct {
	// File is the file as it was named in the catalogue's folder; empty for a schema that came as text.
	File string
	// Line is the line in the file or text, from 1; 0 if it is not known.
	Line int
	// Name is the full name of the type that is at fault; empty if the text did not get that far.
	Name string
	// Field is the dotted path of the field; empty if the fault is not within one.
	Field string
	// Reason is the fault, in words for the schema's author.
	Reason string
}

// Error returns "file:line: name: field path: reason", leaving out what is not known.
func (e *Error) Error() string {
	var parts []string
	switch {
	case e.File != "" && e.Line > 0:
		parts = append(parts, e.File+":"+strconv.Itoa(e.Line))
	case e.File != "":
		parts = append(parts, e.File)
	case e.Line > 0:
		parts = append(parts, "schema, line "+strconv.Itoa(e.Line))
	default:
		parts = append(parts, "schema")
	}
	if e.Name != "" {
		parts = append(parts, e.Name)
	}
	if e.Field != "" {
		parts = append(parts, "field "+e.Field)
	}
	return strings.Join(append(parts, e.Reason), ": ")
}
