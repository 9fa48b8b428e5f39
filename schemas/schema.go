package schemas

import (
	"fmt"
	"strings"

	"github.com/twmb/avro"
)

// Custom properties of a record that Millrace reads.
const (
	// TopicProperty names the Kafka topic that events of this type go to.
	TopicProperty = "millrace.topic"
	// KeyProperty names the field whose value is the event's key.
	KeyProperty = "millrace.key"
)

// Schema is one record schema, complete in itself.
type Schema struct {
	// Name is the full name, such as "shop.OrderPlaced".
	Name string
	// Topic is the property "millrace.topic"; empty if the schema has none.
	Topic string
	// Key is the property "millrace.key": the field whose value is the event's key. Empty if writers name the key.
	Key string
	// File is the file the schema was loaded from, for messages; empty if it came as text.
	File string
	// Text is the schema as normalised JSON: names in full, each named type defined where it is first used.
	Text string
	// Fingerprint identifies the schema; see Fingerprint for what counts.
	Fingerprint Fingerprint
}

// Parse reads one self-contained record schema, such as a registry or the table outbox.schema returns. The text may be
// hostile: its size (1 MiB) and depth are limited, and whatever is wrong with it is an *Error. Records may contain
// themselves here; in a catalogue they may not.
func Parse(text string) (*Schema, error) { return ParseWith(text) }

// ParseWith is Parse for a schema that refers to types which other texts define, as registries keep schemas with
// references. The order of the others does not matter. What it returns is complete in itself.
func ParseWith(text string, others ...string) (*Schema, error) {
	defs := definitions{}
	root, src, err := defs.read(text, "")
	if err != nil {
		return nil, err
	}
	for i, other := range others {
		if _, _, err := defs.read(other, fmt.Sprintf("reference %d", i+1)); err != nil {
			return nil, err
		}
	}
	return build(src, root, defs, false)
}

func (defs definitions) read(text, name string) (*node, *source, error) {
	src := &source{file: name, text: []byte(text)}
	root, err := src.parse()
	if err != nil {
		return nil, nil, err
	}
	return root, src, defs.collect(src, root, "")
}

// build makes the schema of the record that root defines, with the help of all definitions.
func build(src *source, root *node, defs definitions, strict bool) (*Schema, error) {
	if kind := root.member("type"); kind != "record" {
		return nil, src.at(root, "", "", "the schema of an event must be a record")
	}
	def, err := describe(src, root, "")
	if err != nil {
		return nil, err
	}
	nz := &normaliser{defs: defs, strict: strict, done: map[string]bool{}, root: def.name}
	form, err := nz.schema(root, scope{src: src})
	if err != nil {
		return nil, err
	}
	s := &Schema{Name: def.name, File: src.file}
	if err := nz.properties(s, def, form.(object)); err != nil {
		return nil, err
	}
	text := render(form, true)
	if len(text) > maxTextBytes {
		return nil, src.at(nil, def.name, "", "with all its types larger than the limit of %d bytes", maxTextBytes)
	}
	s.Text = string(text)
	s.Fingerprint = fingerprintOf(render(form, false))
	return s, validate(s)
}

// validate leaves the rest of Avro's rules - defaults, symbols, sizes, unions - to the Avro library.
func validate(s *Schema) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &Error{File: s.File, Name: s.Name, Reason: fmt.Sprintf("the Avro library gave up on it: %v", r)}
		}
	}()
	if _, err := avro.Parse(s.Text); err != nil {
		reason := strings.TrimPrefix(err.Error(), "avro: ")
		return &Error{File: s.File, Name: s.Name, Reason: excerptLong(reason)}
	}
	return nil
}

func excerptLong(s string) string {
	const limit = 400
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
