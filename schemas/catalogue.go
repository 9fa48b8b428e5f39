package schemas

import (
	"slices"
	"strings"
)

// Catalogue is a set of schemas by full name. It does not change once built, so it is safe for concurrent use.
type Catalogue struct {
	byName map[string]*Schema
}

// NewCatalogue makes a catalogue of schemas that were parsed before. The same schema may be given twice; two different
// schemas of one name are an *Error.
func NewCatalogue(list ...*Schema) (*Catalogue, error) {
	c := &Catalogue{byName: make(map[string]*Schema, len(list))}
	for _, s := range list {
		if old, ok := c.byName[s.Name]; ok && old.Fingerprint != s.Fingerprint {
			return nil, &Error{File: s.File, Name: s.Name, Reason: "defined differently in " + where(old)}
		}
		c.byName[s.Name] = s
	}
	return c, nil
}

// Lookup finds a schema by its full name.
func (c *Catalogue) Lookup(name string) (*Schema, bool) {
	s, ok := c.byName[name]
	return s, ok
}

// All returns the schemas sorted by name.
func (c *Catalogue) All() []*Schema {
	all := make([]*Schema, 0, len(c.byName))
	for _, s := range c.byName {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Schema) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Merge returns a catalogue of both. A name that both define differently is an *Error.
func (c *Catalogue) Merge(other *Catalogue) (*Catalogue, error) {
	return NewCatalogue(append(c.All(), other.All()...)...)
}

func where(s *Schema) string {
	if s.File == "" {
		return "another schema"
	}
	return s.File
}
