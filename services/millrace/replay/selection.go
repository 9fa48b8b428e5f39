package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
)

// selection says which records of the range are meant.
type selection struct {
	cfg   Config
	said  string // the range in words
	types map[int]string
}

func newSelection(cfg Config) *selection {
	said := []string{"a replay"}
	for _, part := range []struct{ word, value string }{{"since", cfg.Since.String()}, {"until", cfg.Until.String()}, {"key", cfg.Key}, {"type", cfg.Type}} {
		if part.value != "" {
			said = append(said, part.word+" "+part.value)
		}
	}
	return &selection{cfg: cfg, said: strings.Join(said, " "), types: map[int]string{}}
}

func (s *selection) wants(ctx context.Context, r *kgo.Record) (bool, error) {
	switch {
	case s.cfg.Key != "" && string(r.Key) != s.cfg.Key,
		!s.cfg.Since.Time.IsZero() && r.Timestamp.Before(s.cfg.Since.Time),
		!s.cfg.Until.Time.IsZero() && !r.Timestamp.Before(s.cfg.Until.Time):
		return false, nil
	case s.cfg.Type == "":
		return true, nil
	}
	name, err := s.typeOf(ctx, r)
	return name == s.cfg.Type, err
}

// typeOf is what the header says, or, with compact headers, the schema. A record that is no event has none.
func (s *selection) typeOf(ctx context.Context, r *kgo.Record) (string, error) {
	for _, h := range r.Headers {
		if h.Key == "ce_type" {
			return string(h.Value), nil
		}
	}
	id, _, err := avro.SplitFrame(r.Value)
	if err != nil || s.cfg.Registry == nil {
		return "", nil
	}
	if name, ok := s.types[id]; ok {
		return name, nil
	}
	text, err := s.cfg.Registry.Schema(ctx, id)
	if err != nil && !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, registry.ErrInvalid) {
		return "", fmt.Errorf("ask the registry for schema %d, of offset %d of partition %d: %w", id, r.Offset, r.Partition, err)
	}
	if parsed, err := schemas.Parse(text); err == nil {
		s.types[id] = parsed.Name
	} else {
		s.types[id] = ""
	}
	return s.types[id], nil
}
