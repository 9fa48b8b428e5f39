package registry

import (
	"fmt"

	"github.com/riferrei/srclient"

	"github.com/millrace/millrace/schemas"
)

const (
	// maxReferences bounds how many other schemas one schema may refer to, directly and through others.
	maxReferences = 64
)

// complete returns the text of a schema with what it refers to written into it. A schema without references is returned
// as the registry keeps it.
func complete(sr *srclient.SchemaRegistryClient, s *srclient.Schema) (string, error) {
	if err := checkAvro(s); err != nil {
		return "", err
	}
	if len(s.References()) == 0 {
		return s.Schema(), nil
	}
	others, err := collect(sr, s.References(), map[srclient.Reference]bool{}, nil)
	if err != nil {
		return "", err
	}
	whole, err := schemas.ParseWith(s.Schema(), others...)
	if err != nil {
		return "", fmt.Errorf("%w: its references do not resolve: %w", ErrInvalid, err)
	}
	return whole.Text, nil
}

func checkAvro(s *srclient.Schema) error {
	if t := s.SchemaType(); t != nil && *t != "" && *t != srclient.Avro {
		return fmt.Errorf("%w: it is of type %s, not Avro", ErrInvalid, excerpt(t.String()))
	}
	return nil
}

// collect gathers the texts of references and of theirs, each once.
func collect(sr *srclient.SchemaRegistryClient, refs []srclient.Reference, seen map[srclient.Reference]bool, texts []string) ([]string, error) {
	for _, ref := range refs {
		ref.Name = ""
		if seen[ref] {
			continue
		}
		seen[ref] = true
		if len(seen) > maxReferences {
			return nil, fmt.Errorf("%w: more than %d references", ErrInvalid, maxReferences)
		}
		s, err := sr.GetSchemaByVersion(ref.Subject, ref.Version)
		if err != nil {
			return nil, fmt.Errorf("reference to %s version %d: %w", ref.Subject, ref.Version, err)
		}
		if err := checkAvro(s); err != nil {
			return nil, err
		}
		texts, err = collect(sr, s.References(), seen, append(texts, s.Schema()))
		if err != nil {
			return nil, err
		}
	}
	return texts, nil
}
