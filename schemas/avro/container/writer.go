package container

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/linkedin/goavro/v2"
)

// Compression is how the blocks of a file are compressed.
type Compression string

// The compressions that every Avro implementation reads, but for Snappy, which most do.
const (
	Null    Compression = goavro.CompressionNullLabel
	Deflate Compression = goavro.CompressionDeflateLabel
	Snappy  Compression = goavro.CompressionSnappyLabel
)

const (
	// A block is written when it holds this many records or bytes.
	blockRecords = 1000
	blockBytes   = 1 << 20
)

// ErrInexact says that a value would not be in the file what it is.
var ErrInexact = errors.New("the container file would not hold the value exactly")

// ErrRecursive says that a schema contains itself; goavro cannot be trusted with such values.
var ErrRecursive = errors.New("container files of schemas that contain themselves are not supported")

// Option sets up a Writer.
type Option func(*goavro.OCFConfig)

// WithCompression chooses the compression. Default Deflate.
func WithCompression(c Compression) Option {
	return func(cfg *goavro.OCFConfig) { cfg.CompressionName = string(c) }
}

// WithMetadata adds an entry to the file's header. Keys must not begin with "avro.".
func WithMetadata(key string, value []byte) Option {
	return func(cfg *goavro.OCFConfig) {
		if cfg.MetaData == nil {
			cfg.MetaData = map[string][]byte{}
		}
		cfg.MetaData[key] = value
	}
}

// Writer writes one container file. It is not for concurrent use.
type Writer struct {
	codec *codec
	ocf   *goavro.OCFWriter

	block []any
	bytes int
	err   error // the first that writing met; everything after it fails as well
}

// NewWriter begins a file of records of one schema on out. The header is written at once. Close writes the last block;
// it leaves out open.
func NewWriter(out io.Writer, schema string, opts ...Option) (*Writer, error) {
	c, err := compile(schema)
	if err != nil {
		return nil, err
	}
	// A plain io.Writer: goavro would append to an *os.File that holds something.
	cfg := goavro.OCFConfig{W: struct{ io.Writer }{out}, Codec: c.full, CompressionName: string(Deflate)}
	for _, o := range opts {
		o(&cfg)
	}
	if _, err := rand.Read(cfg.SyncMarker[:]); err != nil {
		return nil, fmt.Errorf("begin container file: %w", err)
	}
	if _, err := goavro.NewOCFWriter(cfg); err != nil {
		return nil, fmt.Errorf("begin container file of %s: %w", c.Schema().Name, err)
	}
	// The blocks come from a second writer of the same marker, whose own header goes nowhere.
	g := &gate{out: out}
	cfg.W, cfg.Codec = g, c.physical
	blocks, err := goavro.NewOCFWriter(cfg)
	if err != nil {
		return nil, fmt.Errorf("begin container file of %s: %w", c.Schema().Name, err)
	}
	g.open = true
	return &Writer{codec: c, ocf: blocks}, nil
}

// gate lets through what is written after it was opened.
type gate struct {
	out  io.Writer
	open bool
}

// Write implements io.Writer.
func (g *gate) Write(p []byte) (int, error) {
	if !g.open {
		return len(p), nil
	}
	return g.out.Write(p)
}

// Append adds a record that is Avro binary of the schema already, without a frame. The payload is checked first, as
// avro.Codec.Decode does.
func (w *Writer) Append(payload []byte) error {
	if w.err != nil {
		return w.err
	}
	datum, err := w.exact(payload)
	if err != nil {
		return err
	}
	w.block = append(w.block, datum)
	w.bytes += len(payload)
	if len(w.block) >= blockRecords || w.bytes >= blockBytes {
		return w.Flush()
	}
	return nil
}

// AppendValue adds a record that is still a map or a struct. What does not fit the schema is an *avro.FieldError.
func (w *Writer) AppendValue(v any) error {
	payload, err := w.codec.AppendEncode(nil, v)
	if err != nil {
		return err
	}
	return w.Append(payload)
}

// exact turns a payload into goavro's values, and makes sure that they come out as they went in.
func (w *Writer) exact(payload []byte) (any, error) {
	want, err := w.codec.Decode(payload) // the second promise of the package: first the decoder that withstands anything
	if err != nil {
		return nil, err
	}
	datum, rest, err := w.codec.physical.NativeFromBinary(payload)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes are left over", len(rest))
	}
	var again []byte
	if err == nil {
		again, err = w.codec.physical.BinaryFromNative(nil, datum)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", w.codec.Schema().Name, ErrInexact, err)
	}
	got, err := w.codec.Decode(again)
	if err != nil || !equal(want, got) { // the first
		return nil, fmt.Errorf("%s: %w", w.codec.Schema().Name, ErrInexact)
	}
	return datum, nil
}

// Flush writes what was appended as a block.
func (w *Writer) Flush() error {
	if w.err != nil || len(w.block) == 0 {
		return w.err
	}
	if err := w.ocf.Append(w.block); err != nil {
		w.err = fmt.Errorf("write container file of %s: %w", w.codec.Schema().Name, err)
	}
	w.block, w.bytes = w.block[:0], 0
	return w.err
}

// Close writes the last block. The file is whole only if Close returns nil.
func (w *Writer) Close() error { return w.Flush() }
