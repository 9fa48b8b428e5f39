package outbox

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

// key returns the event's key: the given one, or the value of the schema's key field.
func (o *Outbox) key(v *view, et *eventType, payload []byte) (string, *EventError) {
	key := v.Key
	if key == "" {
		var err *EventError
		if key, err = et.keyOf(payload); err != nil {
			return "", err
		}
	}
	switch fault := textFault(key); {
	case fault != "":
		return "", refuse(ErrMalformed, "the key holds %s", fault)
	case len(key) > o.limits.Key:
		return "", refuse(ErrTooLarge, "key of %d bytes, at most %d", len(key), o.limits.Key)
	}
	return key, nil
}

// eventType is a schema of the catalogue, made ready for writing.
type eventType struct {
	schema *schemas.Schema
	codec  *avro.Codec
	// keys decodes of an event at least its key field.
	keys *avro.Codec
}

func newEventType(s *schemas.Schema) (*eventType, error) {
	codec, err := avro.New(s.Text)
	if err != nil {
		return nil, fmt.Errorf("outbox: schema %s: %w", s.Name, err)
	}
	et := &eventType{schema: s, codec: codec, keys: codec}
	if s.Key != "" {
		if keys, err := keyCodec(codec, s); err == nil {
			et.keys = keys
		}
	}
	return et, nil
}

// keyCodec returns a codec that reads the key field alone and skips the others. There is none if the field's type is
// defined within another field; then the whole event is decoded.
func keyCodec(writer *avro.Codec, s *schemas.Schema) (*avro.Codec, error) {
	var record struct {
		Type      string                       `json:"type"`
		Name      string                       `json:"name"`
		Namespace string                       `json:"namespace"`
		Fields    []map[string]json.RawMessage `json:"fields"`
	}
	if err := json.Unmarshal([]byte(s.Text), &record); err != nil {
		return nil, err
	}
	for _, f := range record.Fields {
		if string(f["name"]) == strconv.Quote(s.Key) {
			record.Fields = []map[string]json.RawMessage{{"name": f["name"], "type": f["type"]}}
			break
		}
	}
	text, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	reader, err := avro.New(string(text))
	if err != nil {
		return nil, err
	}
	return avro.Resolve(writer, reader)
}

// keyOf reads the key field back from the encoded event: the one place where it has one form, whatever Go type it
// came in. Key fields are strings, enums, uuids and whole numbers, and never null; the catalogue has checked that.
func (et *eventType) keyOf(payload []byte) (string, *EventError) {
	field := et.schema.Key
	if field == "" {
		return "", refuse(ErrNoKey, "none was given, and the schema has no millrace.key")
	}
	values, err := et.keys.Decode(payload)
	if err != nil {
		return "", &EventError{Field: field, Reason: ErrNoKey, Detail: err.Error(), Err: err}
	}
	switch key := values[field].(type) {
	case string:
		if key == "" {
			return "", &EventError{Field: field, Reason: ErrNoKey, Detail: "the key field is empty"}
		}
		return key, nil
	case int64:
		return strconv.FormatInt(key, 10), nil
	default:
		return "", &EventError{Field: field, Reason: ErrNoKey, Detail: fmt.Sprintf("the key field is a %T", key)}
	}
}
