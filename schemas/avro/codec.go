package avro

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"

	lib "github.com/twmb/avro"

	"github.com/millrace/millrace/schemas"
)

// Codec encodes and decodes values of one record schema. It is safe for concurrent use.
type Codec struct {
	schema *schemas.Schema
	lib    *lib.Schema
	root   *plan
	fields []Field

	recursive bool
	// writer is the root of the schema that the data was written with, of a resolved codec; else nil.
	writer *plan

	allOnce sync.Once
	all     *Selection
	// structs holds what has been found out about Go types, by structKey.
	structs sync.Map
}

// New compiles a codec for one writer schema. The text may be hostile; the error is a *schemas.Error.
func New(text string) (*Codec, error) {
	s, err := schemas.Parse(text)
	if err != nil {
		return nil, err
	}
	return compile(s)
}

// bigDecimal keeps the logical type big-decimal as the bytes it came in: it has no scale that a column could have.
var bigDecimal = lib.CustomType{LogicalType: "big-decimal", AvroType: "bytes"}

func compile(s *schemas.Schema) (_ *Codec, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &schemas.Error{Name: s.Name, Reason: fmt.Sprintf("the Avro library gave up on it: %v", r)}
		}
	}()
	parsed, err := lib.Parse(s.Text, bigDecimal)
	if err != nil {
		return nil, &schemas.Error{Name: s.Name, Reason: err.Error()}
	}
	pl := &planner{named: map[string]*plan{}, open: map[*plan]bool{}}
	root, err := pl.plan(parsed.Root())
	if err != nil {
		return nil, &schemas.Error{Name: s.Name, Reason: err.Error()}
	}
	fields := fieldsOf(root, map[*plan]bool{root: true})
	return &Codec{schema: s, lib: parsed, root: root, fields: fields, recursive: pl.recursive}, nil
}

// Schema is the schema the codec was compiled for; of a resolved codec, the reader's.
func (c *Codec) Schema() *schemas.Schema { return c.schema }

// Fields are the fields of the root record, in order. The slice is shared: do not change it.
func (c *Codec) Fields() []Field { return c.fields }

// Recursive says whether a record of the schema contains itself, so that its values nest without a bound of their own.
func (c *Codec) Recursive() bool { return c.recursive }

// AppendEncode appends the Avro binary of v to dst. v is a map[string]any or a struct whose fields carry avro tags
// (name, "-", omitzero, inline). See the package comment for the values that each type takes. If v does not fit, the
// error is a *FieldError and dst is returned as it was.
func (c *Codec) AppendEncode(dst []byte, v any) ([]byte, error) {
	return c.encode(dst, v, false)
}

// AppendEncodeJSON appends the Avro binary of a natural JSON object, such as outbox.emit stored it, to dst. Numbers keep
// all their digits; of a key given twice the last one counts, as in Postgres' jsonb. If the object does not fit, the error is a *FieldError and dst is returned as it was.
func (c *Codec) AppendEncodeJSON(dst, body []byte) ([]byte, error) {
	if !utf8.Valid(body) {
		return dst, &FieldError{Schema: c.schema.Name, Reason: "not UTF-8 text"}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("text follows behind the object")
		}
	}
	if err != nil {
		return dst, &FieldError{Schema: c.schema.Name, Reason: "not JSON: " + excerpt(err.Error())}
	}
	return c.encode(dst, v, true)
}

func (c *Codec) encode(dst []byte, v any, fromJSON bool) ([]byte, error) {
	w := writer{schema: c.schema.Name, json: fromJSON, codec: c}
	out, err := w.value(dst, c.root, v)
	if err != nil {
		return dst, err
	}
	return out, nil
}
