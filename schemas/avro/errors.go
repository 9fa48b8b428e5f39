package avro

import "fmt"

// FieldError says that a value does not fit its schema: which schema, which field, and why. Its text holds no value
// longer than a short excerpt, so it may be logged and stored beside a parked event.
type FieldError struct {
	// Schema is the full name of the schema.
	Schema string
	// Field is the dotted path from the record's root: "lines[2].price"; empty if the value as a whole is at fault.
	Field string
	// Reason says what was wrong.
	Reason string
}

// Error returns "shop.OrderPlaced: field lines[2].price: reason".
func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Schema + ": " + e.Reason
	}
	return e.Schema + ": field " + e.Field + ": " + e.Reason
}

// DecodeError says why a payload is no value of its writer's schema. It comes from the bytes alone: trying again does
// not help.
type DecodeError struct {
	// Schema is the full name of the reader's schema.
	Schema string
	// Err is what was wrong, with the path of the field where that is known.
	Err error
}

// Error names the schema and what was wrong.
func (e *DecodeError) Error() string { return "decode " + e.Schema + ": " + e.Err.Error() }

// Unwrap returns what was wrong.
func (e *DecodeError) Unwrap() error { return e.Err }

// CompatibilityError says why data of one schema cannot be read as another.
type CompatibilityError struct {
	// Writer and Reader are the full names of the two schemas.
	Writer, Reader string
	// Path is the dotted path to what does not fit.
	Path string
	// Reason says what does not fit.
	Reason string
}

// Error names both schemas, the path and the reason.
func (e *CompatibilityError) Error() string {
	return fmt.Sprintf("%s cannot be read as %s: %s: %s", e.Writer, e.Reader, e.Path, e.Reason)
}
