package container

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/linkedin/goavro/v2"

	"github.com/millrace/millrace/schemas"
)

// Reader reads one container file. It is not for concurrent use.
type Reader struct {
	codec    *codec
	metadata map[string][]byte
	ocf      *goavro.OCFReader
	err      error
}

// NewReader reads the header of a file of one's own.
func NewReader(in io.Reader) (_ *Reader, err error) {
	defer caught(&err)
	buffered := bufio.NewReader(in)
	var header bytes.Buffer
	file, err := goavro.NewOCFReader(io.TeeReader(buffered, &header))
	if err != nil {
		return nil, fmt.Errorf("read container file: %w", err)
	}
	c, err := compile(file.Codec().Schema())
	if err != nil {
		return nil, fmt.Errorf("read container file: %w", err)
	}
	// The blocks are read behind a header of our own, which differs in the schema only: see codec.
	cfg := goavro.OCFConfig{Codec: c.physical, CompressionName: file.CompressionName()}
	copy(cfg.SyncMarker[:], header.Bytes()[header.Len()-len(cfg.SyncMarker):])
	var own bytes.Buffer
	cfg.W = &own
	if _, err := goavro.NewOCFWriter(cfg); err != nil {
		return nil, fmt.Errorf("read container file: %w", err)
	}
	blocks, err := goavro.NewOCFReader(io.MultiReader(&own, buffered))
	if err != nil {
		return nil, fmt.Errorf("read container file: %w", err)
	}
	return &Reader{codec: c, metadata: file.MetaData(), ocf: blocks}, nil
}

// Schema is the schema of the file's records.
func (r *Reader) Schema() *schemas.Schema { return r.codec.Schema() }

// Metadata is the file's header, with the entries that begin with "avro.".
func (r *Reader) Metadata() map[string][]byte { return r.metadata }

// Next returns the Avro binary of the next record, and io.EOF after the last one.
func (r *Reader) Next() (payload []byte, err error) {
	if r.err != nil {
		return nil, r.err
	}
	defer func() { r.err = err }()
	defer caught(&err)
	if !r.ocf.Scan() {
		if err := r.ocf.Err(); err != nil {
			return nil, fmt.Errorf("read container file: %w", err)
		}
		return nil, io.EOF
	}
	datum, err := r.ocf.Read()
	if err == nil {
		payload, err = r.codec.physical.BinaryFromNative(nil, datum)
	}
	if err != nil {
		return nil, fmt.Errorf("read container file: %w", err)
	}
	return payload, nil
}

// NextValue returns the next record decoded, as avro.Codec.Decode does, and io.EOF after the last one.
func (r *Reader) NextValue() (map[string]any, error) {
	payload, err := r.Next()
	if err != nil {
		return nil, err
	}
	return r.codec.Decode(payload)
}

// caught turns a panic of the library into an error.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("read container file: the library gave up: %v", p)
	}
}
