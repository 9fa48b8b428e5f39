package container

import (
	"fmt"

	"github.com/linkedin/goavro/v2"
	lib "github.com/twmb/avro"

	"github.com/millrace/millrace/schemas/avro"
)

// codec is a schema for both libraries.
type codec struct {
	*avro.Codec
	// full is the schema as it stands in a file's header.
	full *goavro.Codec
	// physical is the schema without logical types. They say what a value means and change nothing on the wire, but
	// goavro's handling of them loses values: it cuts decimals to their scale and cannot write a fixed decimal of 0.
	physical *goavro.Codec
}

func compile(schema string) (*codec, error) {
	own, err := avro.New(schema)
	if err != nil {
		return nil, err
	}
	name, text := own.Schema().Name, own.Schema().Text
	if own.Recursive() {
		return nil, fmt.Errorf("%s: %w", name, ErrRecursive)
	}
	parsed, err := lib.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := &codec{Codec: own}
	if c.full, err = goavro.NewCodec(text); err == nil {
		c.physical, err = goavro.NewCodec(string(parsed.Canonical()))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the container file's library does not take the schema: %w", name, err)
	}
	return c, nil
}
