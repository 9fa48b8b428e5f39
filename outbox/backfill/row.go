package backfill

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

// shape is how a row becomes an event.
type shape struct {
	kind    string
	headers map[string]string
	fields  []field
}

// field is a field of the event, and the column that it is taken from.
type field struct {
	name, column string
	typ          avro.Type
	// optional says that the schema has a default for it.
	optional bool
	// bytes says that the column is a bytea.
	bytes bool
}

func newShape(cfg Config, schema *schemas.Schema) (*shape, error) {
	codec, err := avro.New(schema.Text)
	if err != nil {
		return nil, wrong("type", "%v", err)
	}
	var declared struct {
		Fields []map[string]json.RawMessage `json:"fields"`
	}
	if err := json.Unmarshal([]byte(schema.Text), &declared); err != nil {
		return nil, wrong("type", "%v", err)
	}
	s := &shape{kind: cfg.Type, headers: maps.Clone(cfg.Headers)}
	if s.headers == nil {
		s.headers = map[string]string{}
	}
	s.headers[outbox.HeaderSnapshot] = cfg.Name
	var names []string
	for i, f := range codec.Fields() {
		names = append(names, f.Name)
		one := field{name: f.Name, column: f.Name, typ: f.Type}
		if c := cfg.Fields[f.Name]; c != "" {
			one.column = c
		}
		if i < len(declared.Fields) {
			_, one.optional = declared.Fields[i]["default"]
		}
		s.fields = append(s.fields, one)
	}
	for name := range cfg.Fields {
		if !slices.Contains(names, name) {
			return nil, wrong("fields."+name, "%s has no such field: it has %s", cfg.Type, strings.Join(names, ", "))
		}
	}
	return s, nil
}

// expression is the column as text: JSON, or the hexadecimal digits of bytes. What becomes a string is what Postgres shows of it, so that
// types without a counterpart in Avro can be kept as well.
func (f *field) expression(column, typ string) string {
	switch {
	case f.bytes:
		return "encode(" + column + ", 'hex')"
	case f.typ.Kind == avro.String || f.typ.Kind == avro.Enum || f.typ.Kind == avro.UUID:
		return "to_json(" + column + "::text)::text"
	case f.typ.Kind == avro.Array && f.typ.Elem != nil && f.typ.Elem.Kind == avro.String && strings.HasSuffix(typ, "[]"):
		return "to_json(" + column + "::text[])::text"
	}
	return "to_json(" + column + ")::text"
}

// value makes a Go value of it, of those that the codec takes.
func (f *field) value(text *string) (any, error) {
	if text == nil {
		return nil, nil
	}
	if f.bytes {
		return hex.DecodeString(*text)
	}
	dec := json.NewDecoder(strings.NewReader(*text))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return v, err
}

// row is one row and its event.
type row struct {
	key    []string
	record outbox.Record
}

// page is some rows in the order of their keys.
type page struct {
	rows []row
	// end says that there are no rows behind these.
	end bool
}

func (p *page) add(s *shape, key []*string, values []*string) error {
	r := row{key: make([]string, len(key)), record: outbox.Record{Type: s.kind, Headers: s.headers, Fields: make(map[string]any, len(values))}}
	for i, k := range key {
		if k == nil {
			return wrong("key", "a row has no value in a column of it: rows without a key cannot be read in order")
		}
		r.key[i] = *k
	}
	if n := len(p.rows); n > 0 && slices.Equal(p.rows[n-1].key, r.key) {
		return wrong("key", "two rows have the key %s: it must tell them apart", shown(r.key))
	}
	for i := range values {
		f := &s.fields[i]
		v, err := f.value(values[i])
		if err != nil {
			return fmt.Errorf("row %s: column %s: %w", shown(r.key), f.column, err)
		}
		r.record.Fields[f.name] = v
	}
	p.rows = append(p.rows, r)
	return nil
}

// last is the position behind the page; the one before it if the page is empty.
func (p *page) last(before []string) []string {
	if len(p.rows) == 0 {
		return before
	}
	return p.rows[len(p.rows)-1].key
}

// RowError says which row cannot become an event. It is an ErrUnfit.
type RowError struct {
	// Key is that of the row, in the order of Config.Key.
	Key []string
	Err error
}

// Error returns "row 17: field total: …".
func (e *RowError) Error() string { return "row " + shown(e.Key) + ": " + reason(e.Err) }

// Unwrap gives ErrUnfit and what was wrong.
func (e *RowError) Unwrap() []error { return []error{ErrUnfit, e.Err} }

// blame names the row that an event was refused for.
func (p *page) blame(err error) error {
	var refused *outbox.EventError
	if errors.As(err, &refused) && refused.Index < len(p.rows) {
		return &RowError{p.rows[refused.Index].key, err}
	}
	return err
}

// reason is what is wrong with an event, without its place among others.
func reason(err error) string {
	var refused *outbox.EventError
	if !errors.As(err, &refused) {
		return err.Error()
	}
	text := refused.Reason.Error()
	if refused.Field != "" {
		text = "field " + refused.Field + ": " + text
	}
	if refused.Detail != "" {
		text += ": " + refused.Detail
	}
	return text
}

func shown(key []string) string {
	const limit = 80
	text := strings.Join(key, ",")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}
