package store

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

// needs is what emit() asks of a body. It is worked out once, so that emit() need not read Avro.
type needs struct {
	fields   []string // all of the record's fields
	required []string // without a default, and null is not allowed
	notNull  []string // null is not allowed
	keyUUID  bool     // the key field is a uuid
}

// needsOf reads the top level of a schema.
func needsOf(s *schemas.Schema) (needs, error) {
	codec, err := avro.New(s.Text)
	if err != nil {
		return needs{}, err
	}
	var record struct {
		Fields []struct {
			Name    string          `json:"name"`
			Type    json.RawMessage `json:"type"`
			Default json.RawMessage `json:"default"` // "null" if that is the default, nil if there is none
		} `json:"fields"`
	}
	if err := json.Unmarshal([]byte(s.Text), &record); err != nil {
		return needs{}, fmt.Errorf("read the schema's fields: %w", err)
	}
	n := needs{keyUUID: slices.ContainsFunc(codec.Fields(), func(f avro.Field) bool {
		return f.Name == s.Key && f.Type.Kind == avro.UUID
	})}
	for _, f := range record.Fields {
		n.fields = append(n.fields, f.Name)
		if allowsNull(f.Type) {
			continue
		}
		n.notNull = append(n.notNull, f.Name)
		if f.Default == nil {
			n.required = append(n.required, f.Name)
		}
	}
	return n, nil
}

// allowsNull says whether a type is null or a union with null. In normal form null is written bare.
func allowsNull(typ json.RawMessage) bool {
	var branches []json.RawMessage
	if json.Unmarshal(typ, &branches) != nil {
		branches = []json.RawMessage{typ}
	}
	return slices.ContainsFunc(branches, func(b json.RawMessage) bool { return string(b) == `"null"` })
}
