package projection

import (
	"fmt"
	"strings"
)

// Error says what is wrong with a declaration, and where. Load, LoadFS and Parse return it for anything the author of the file can
// put right.
type Error struct {
	// File, Line and Col point at the text; lines and columns count from 1. Zero means the file as a whole.
	File      string
	Line, Col int
	// Where names the part of the declaration, for example "on shop.OrderPlaced: set total".
	Where string
	// Reason says what is wrong and, where that is known, what would be right.
	Reason string
}

// Error returns one line: file:line:column: where: reason.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Col)
	}
	if e.Where != "" {
		b.WriteString(": " + e.Where)
	}
	b.WriteString(": " + e.Reason)
	return b.String()
}

// FoldError is what Fold and CacheKeys return: this event, or this state, does not go through the declaration. It is poison.
type FoldError struct {
	// Entity is the projection's.
	Entity string
	// EventType is the full name of the event's type; empty for a cache key.
	EventType string
	// Column is the column being set, or the expression of the cache key.
	Column string
	Err    error
}

// Error returns "entity: event type: column: reason".
func (e *FoldError) Error() string {
	parts := []string{"projection " + e.Entity}
	if e.EventType != "" {
		parts = append(parts, e.EventType)
	}
	if e.Column != "" {
		parts = append(parts, e.Column)
	}
	return strings.Join(append(parts, e.Err.Error()), ": ")
}

// Unwrap returns the reason.
func (e *FoldError) Unwrap() error { return e.Err }
