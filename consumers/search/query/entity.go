package query

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
)

// Kind is how a column is searched.
type Kind int

// The kinds of columns. A list is searched as its elements are.
const (
	None    Kind = iota // not searched: JSON, bytes, lists of lists
	Text                // by its words, whatever their case
	Keyword             // as a whole, exactly
	Number              // by value and range; durations in seconds
	Instant             // by time and range
	Truth               // true or false
)

// String returns the kind in a word; digests of indices are made of it.
func (k Kind) String() string {
	return [...]string{"none", "text", "keyword", "number", "time", "bool"}[k]
}

// Field is a column as it is searched.
type Field struct {
	// Name is the column's.
	Name string
	Kind Kind
	// Date says that an Instant is a whole day.
	Date bool
	// Type is the column's type; of a list, the type of its elements.
	Type projection.Type
}

// Entity is what can be searched for in one entity.
type Entity struct {
	Name    string
	Columns []projection.Column
	// Fields stand in the order of Columns.
	Fields []Field

	byName map[string]int
}

// Projection is the part of a declaration that says what is searched.
type Projection interface {
	Entity() string
	Columns() []projection.Column
}

// searchable is implemented by projections that say which text columns are keywords. The others are words, named or not.
type searchable interface {
	SearchFields() projection.Search
}

// NewEntity returns how the states of a projection are searched.
func NewEntity(p Projection) *Entity {
	e := &Entity{Name: p.Entity(), Columns: p.Columns(), byName: map[string]int{}}
	keywords := map[string]bool{}
	if s, ok := p.(searchable); ok {
		for _, name := range s.SearchFields().Keyword {
			keywords[name] = true
		}
	}
	for i, c := range e.Columns {
		e.Fields = append(e.Fields, fieldOf(c, keywords[c.Name]))
		e.byName[c.Name] = i
	}
	return e
}

func fieldOf(c projection.Column, asKeyword bool) Field {
	t := c.Type
	if t.Kind == projection.List && t.Elem != nil {
		t = *t.Elem
	}
	return Field{Name: c.Name, Kind: kindOf(t, asKeyword), Date: t.Kind == projection.Date, Type: t}
}

func kindOf(t projection.Type, asKeyword bool) Kind {
	switch t.Kind {
	case projection.Text:
		if asKeyword {
			return Keyword
		}
		return Text
	case projection.Int, projection.Float, projection.Decimal, projection.Duration:
		return Number
	case projection.Date, projection.Timestamp:
		return Instant
	case projection.Bool:
		return Truth
	}
	return None
}

// Field finds a column by its name; search.ErrBadQuery if there is none.
func (e *Entity) Field(name string) (Field, error) {
	i, ok := e.byName[name]
	if !ok {
		return Field{}, bad("%s has no field %q; it has %s", e.Name, name, strings.Join(slices.Sorted(maps.Keys(e.byName)), ", "))
	}
	return e.Fields[i], nil
}

// SortField is Field for one to sort by.
func (e *Entity) SortField(name string) (Field, error) {
	f, err := e.Field(name)
	if err == nil && (f.Kind == None || f.Kind == Text) {
		err = bad("field %q is not sorted by: it is neither a number, a time, true or false, nor a keyword", name)
	}
	return f, err
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", search.ErrBadQuery, fmt.Sprintf(format, args...))
}
