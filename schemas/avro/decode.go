package avro

import (
	"errors"
	"fmt"

	lib "github.com/twmb/avro"
)

// MaxPayload is the size in bytes of the largest payload that Decode looks at.
const MaxPayload = 16 << 20

// Decode reads the Avro binary of one record. The payload may be hostile: the time and memory it can cost are bounded by
// its size, its size by MaxPayload, and all of it must be consumed. The values are as Kind says - text that is not UTF-8,
// decimals beyond their precision and the like are errors, for no sink could take them - and share no memory with the
// payload. The error is a *DecodeError.
func (c *Codec) Decode(payload []byte) (_ map[string]any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &DecodeError{Schema: c.schema.Name, Err: fmt.Errorf("the Avro library gave up: %v", r)}
		}
	}()
	if len(payload) > MaxPayload {
		return nil, &DecodeError{c.schema.Name, fmt.Errorf("%d bytes, the limit is %d", len(payload), MaxPayload)}
	}
	var values map[string]any
	rest, err := c.lib.Decode(payload, &values)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow behind the record", len(rest))
	}
	if err != nil {
		return nil, &DecodeError{c.schema.Name, err}
	}
	if c.root.raw {
		if err := finishRecord(c.root, values); err != nil {
			return nil, &DecodeError{c.schema.Name, err}
		}
	}
	return values, nil
}

// Resolve returns a codec that decodes what writer wrote into the layout of reader, by Avro's rules: fields by name or
// alias, missing ones from their defaults, numbers widened. It encodes as reader does. Schemas that cannot be resolved
// are a *CompatibilityError.
func Resolve(writer, reader *Codec) (_ *Codec, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("resolve %s into %s: the Avro library gave up: %v", writer.schema.Name, reader.schema.Name, r)
		}
	}()
	resolved, err := lib.Resolve(writer.lib, reader.lib)
	if err != nil {
		return nil, incompatible(writer, reader, err)
	}
	return &Codec{schema: reader.schema, lib: resolved, root: reader.root, fields: reader.fields, recursive: reader.recursive, writer: writer.root}, nil
}

func incompatible(writer, reader *Codec, err error) error {
	e := &CompatibilityError{Writer: writer.schema.Name, Reader: reader.schema.Name, Path: reader.schema.Name, Reason: err.Error()}
	var c *lib.CompatibilityError
	if errors.As(err, &c) {
		e.Path, e.Reason = c.Path, c.Detail
		if e.Reason == "" {
			e.Reason = fmt.Sprintf("%s is written, %s is read", c.WriterType, c.ReaderType)
		}
	}
	return e
}
