// Package avro encodes events to Avro binary and decodes what comes from the wire. Decoding, and reading one schema's
// data as another's, is the work of github.com/twmb/avro, which withstands hostile bytes. Encoding is done here, for it
// has to be stricter than any library: a value is written exactly or refused, and what nobody would read is refused too.
//
// What each type takes when it is written, and what Decode gives (see Kind):
//
//	boolean        bool
//	int, long      every Go integer, json.Number, floats that are whole (1.0); in JSON a number
//	float, double  every Go number; in JSON also "NaN", "Infinity", "-Infinity". Rounds as floats do
//	string, enum   strings and encoding.TextMarshaler, valid UTF-8; an enum's symbol is checked
//	bytes, fixed   []byte, [N]byte; in JSON a string of the characters U+0000 to U+00FF, as Avro's own JSON has it
//	uuid           text of the form 8-4-4-4-12, [16]byte; written in lower case
//	decimal        *big.Rat, *big.Int, integers, json.Number, text such as "12.50"; in JSON a number or a string.
//	               Too many decimals or digits are an error, never rounded. Floats are refused: they are not exact
//	timestamp-*    time.Time, RFC 3339 text, or a number in the schema's unit. A time finer than the unit is cut to it
//	local-…        the same by the wall clock; text without a zone, or in UTC
//	date           time.Time and RFC 3339 text (the calendar day as written), "2024-05-01", or a number of days
//	time-*         time.Duration since midnight, "12:30:00", or a number in the schema's unit
//	array          slices and arrays; nil is empty
//	map            maps with string keys; nil is empty. Keys are written sorted
//	record         map[string]any, or a struct with avro tags
//	null and one   the bare value or null; a nil pointer, slice or map is null
//	other unions   the bare value, for the first branch that holds it exactly, or {"branch": value}
//
// Pointers and database/sql/driver.Valuer are looked through. A field that is not given takes its default, else null if
// it is nullable, else it is an error. A key or struct field that the schema does not have is an error. Every error names
// the field by its path.
//
// Files, in the order in which a value passes through them:
//
//	plan.go          a schema, compiled
//	codec.go         Codec, AppendEncode, AppendEncodeJSON
//	write.go         value -> binary
//	write_record.go  records and unions
//	structs.go       structs as records
//	values.go        which Go values are what
//	number.go        decimals and whole numbers from text, exactly
//	instant.go       times and dates
//	frame.go         the schema id in front of the binary
//	decode.go        binary -> values, and Resolve
//	finish.go        what the library leaves to do on decoded values
//	select.go        some fields of the binary, by a plan of our own
//	select_plan.go   schemas -> such a plan
//	node.go          the types in it
//	cursor.go        what they are made of
package avro
