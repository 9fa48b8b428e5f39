// Package export copies the committed records of a topic into an Avro container file, which every Avro tool reads.
//
//	export.go    Run: two passes over the topic
//	envelope.go  the schema of the file and of its records
//	topic.go     reading a topic from end to end
package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/avro/container"
	"github.com/millrace/millrace/schemas/registry"
)

// Registry resolves schema ids; *registry.Client is one.
type Registry interface {
	Schema(ctx context.Context, id int) (text string, err error)
}

// Config says what is exported.
type Config struct {
	// Kafka are the options that reach the brokers.
	Kafka []kgo.Opt
	// Registry resolves the ids in the records.
	Registry Registry
	// Topic is read from its beginning to what is committed now.
	Topic string
	// Out takes the file.
	Out io.Writer
	// Progress, if set, is called now and then: how many of how many offsets are read, over both passes.
	Progress func(done, of int64)
}

// Stats says what is in the file.
type Stats struct {
	Topic string `json:"topic"`
	// Records is how many records the file holds; Raw how many of them are no Avro that can be read, and are kept as bytes.
	Records int64 `json:"records"`
	Raw     int64 `json:"raw"`
	// Types counts the records of each type, and under Bytes and None those that have none.
	Types   map[string]int64 `json:"types"`
	Elapsed time.Duration    `json:"-"`
}

// What Stats counts under beside the names of types.
const (
	Bytes = "bytes" // no Avro that can be read, kept as it is
	None  = "null"  // a record without a value
)

// Run reads the topic twice: first for the schemas in use, for they stand at the head of the file, then for the records.
func Run(ctx context.Context, cfg Config) (Stats, error) {
	began := time.Now()
	s := Stats{Topic: cfg.Topic, Types: map[string]int64{}}
	t, err := openTopic(ctx, cfg.Kafka, cfg.Topic)
	if err != nil {
		return s, err
	}
	t.progress = cfg.Progress
	ids := map[int]bool{}
	err = t.scan(ctx, func(r *kgo.Record) error {
		if id, _, err := avro.SplitFrame(r.Value); err == nil {
			ids[id] = true
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	e, err := newEnvelope(ctx, cfg, ids)
	if err != nil {
		return s, err
	}
	w, err := container.NewWriter(cfg.Out, e.schema, container.WithMetadata("millrace.topic", []byte(cfg.Topic)))
	if err != nil {
		return s, fmt.Errorf("begin the file: %w", err)
	}
	err = t.scan(ctx, func(r *kgo.Record) error { return e.append(w, r, &s) })
	if err = errors.Join(err, w.Close()); err != nil {
		return s, fmt.Errorf("export %s: %w", cfg.Topic, err)
	}
	s.Elapsed = time.Since(began)
	return s, nil
}

// lookup returns the text of a schema; "" for an id that the registry does not know, or that is no Avro schema.
func lookup(ctx context.Context, r Registry, id int) (string, error) {
	text, err := r.Schema(ctx, id)
	if errors.Is(err, registry.ErrNotFound) || errors.Is(err, registry.ErrInvalid) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask the registry for schema %d: %w", id, err)
	}
	return text, nil
}
