package avro

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
