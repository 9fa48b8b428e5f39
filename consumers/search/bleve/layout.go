package bleve

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/blevesearch/bleve/v2/analysis"
	"github.com/blevesearch/bleve/v2/analysis/token/lowercase"
	"github.com/blevesearch/bleve/v2/analysis/tokenizer/unicode"
	"github.com/blevesearch/bleve/v2/document"
	index "github.com/blevesearch/bleve_index_api"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/stored"
	"github.com/millrace/millrace/consumers/projection"
)

// layoutVersion is part of every digest: an index made by another way of making documents has to be rebuilt.
const layoutVersion = "1"

// Fields of every document, besides its columns.
const (
	stateField  = "_state"  // the stored state, not indexed
	entityField = "_entity" // the entity, of documents that exist: what searches are bound to
	textField   = "_text"   // all words of all text columns: what a query without a field name searches
)

// maxKeyword is the length in bytes up to which a text is a keyword; a longer one is found by its words only.
const maxKeyword = 8 << 10

// kind is how a column is searched.
type kind int

const (
	none    kind = iota // not searched: JSON, bytes, lists of lists
	text                // by its words, whatever their case
	keyword             // as a whole, exactly
	number              // by value and range
	instant             // by time and range
	truth               // true or false
)

func (k kind) String() string {
	return [...]string{"none", "text", "keyword", "number", "time", "bool"}[k]
}

// field is how one column is indexed.
type field struct {
	name string // of the field in the index: entity.column
	kind kind
	date bool // an instant that is a whole day
}

// layout is how the states of one entity become documents.
type layout struct {
	entity  string
	columns []projection.Column
	fields  []field          // by column
	byName  map[string]field // by column name
	text    string           // name of the field that holds all words
}

// searchable is implemented by projections that say which text columns are keywords. The others are words, named or not.
type searchable interface {
	SearchFields() projection.Search
}

func newLayouts(projections []fold.Projection) (map[string]*layout, error) {
	out := make(map[string]*layout, len(projections))
	for _, p := range projections {
		if out[p.Entity()] != nil {
			return nil, fmt.Errorf("bleve: entity %s is declared twice", p.Entity())
		}
		out[p.Entity()] = newLayout(p)
	}
	return out, nil
}

func newLayout(p fold.Projection) *layout {
	l := &layout{entity: p.Entity(), columns: p.Columns(), byName: map[string]field{}, text: p.Entity() + "." + textField}
	keywords := map[string]bool{}
	if s, ok := p.(searchable); ok {
		for _, name := range s.SearchFields().Keyword {
			keywords[name] = true
		}
	}
	for _, c := range l.columns {
		f := field{name: l.entity + "." + c.Name, kind: kindOf(c.Type, keywords[c.Name]), date: isDate(c.Type)}
		l.fields = append(l.fields, f)
		l.byName[c.Name] = f
	}
	return l
}

func kindOf(t projection.Type, asKeyword bool) kind {
	switch t.Kind {
	case projection.Text:
		if asKeyword {
			return keyword
		}
		return text
	case projection.Int, projection.Float, projection.Decimal, projection.Duration:
		return number
	case projection.Date, projection.Timestamp:
		return instant
	case projection.Bool:
		return truth
	case projection.List:
		if t.Elem != nil && t.Elem.Kind != projection.List {
			return kindOf(*t.Elem, asKeyword)
		}
	}
	return none
}

func isDate(t projection.Type) bool {
	return t.Kind == projection.Date || t.Kind == projection.List && t.Elem != nil && t.Elem.Kind == projection.Date
}

// digest changes when documents would be made differently.
func (l *layout) digest() string {
	h := sha256.New()
	fmt.Fprintln(h, layoutVersion)
	for _, f := range l.fields {
		fmt.Fprintln(h, f.name, f.kind, f.date)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (l *layout) id(key string) string { return l.entity + "/" + key }

const (
	indexed = index.IndexField
	values  = index.IndexField | index.DocValues
	words   = index.IndexField | index.IncludeTermVectors // with positions, for phrases
)

// document makes the document of a state; of a deleted one, the stub that keeps its version.
func (l *layout) document(c fold.Change) (*document.Document, error) {
	state, err := stored.Encode(l.columns, c.Stored)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", l.entity, c.Key, err)
	}
	doc := document.NewDocument(l.id(c.Key))
	doc.AddField(document.NewTextFieldWithIndexingOptions(stateField, nil, state, index.StoreField))
	if !c.Exists {
		return doc, nil
	}
	doc.AddField(document.NewTextFieldWithIndexingOptions(entityField, nil, []byte(l.entity), indexed))
	b := builder{layout: l, doc: doc}
	b.words(c.Key)
	for i, v := range c.Values {
		b.add(l.fields[i], l.columns[i].Type, v, nil)
	}
	return doc, nil
}

// builder adds the fields of one document.
type builder struct {
	layout *layout
	doc    *document.Document
	texts  uint64 // texts added to the field of all words
}

// words adds a text to what a query without a field name searches. Each text is an element of its own: phrases end with it.
func (b *builder) words(s string) {
	b.doc.AddField(document.NewTextFieldCustom(b.layout.text, []uint64{b.texts}, []byte(s), words, analyzer))
	b.texts++
}

func (b *builder) add(f field, t projection.Type, v any, at []uint64) {
	if f.kind == none || v == nil {
		return
	}
	if list, ok := v.([]any); ok && t.Kind == projection.List {
		for i, e := range list {
			b.add(f, *t.Elem, e, []uint64{uint64(i)})
		}
		return
	}
	switch x := v.(type) {
	case string:
		b.string(f, x, at)
	case bool:
		b.doc.AddField(document.NewBooleanFieldWithIndexingOptions(f.name, at, x, values))
	case time.Time:
		// A time before 1677 or after 2262 has no form in the index: it is in the state, and not found by its range.
		if d, err := document.NewDateTimeFieldWithIndexingOptions(f.name, at, x, time.RFC3339Nano, values); err == nil {
			b.doc.AddField(d)
		}
	default:
		if n, ok := asFloat(v); ok {
			b.doc.AddField(document.NewNumericFieldWithIndexingOptions(f.name, at, n, values))
		}
	}
}

func (b *builder) string(f field, s string, at []uint64) {
	b.words(s)
	switch {
	case f.kind == text:
		b.doc.AddField(document.NewTextFieldCustom(f.name, at, []byte(s), words, analyzer))
	case len(s) <= maxKeyword:
		b.doc.AddField(document.NewTextFieldWithIndexingOptions(f.name, at, []byte(s), values))
	}
}

// asFloat is the number that a value is searched by: durations in seconds.
func asFloat(v any) (float64, bool) {
	var n float64
	switch x := v.(type) {
	case int64:
		n = float64(x)
	case float64:
		n = x
	case *big.Rat:
		n, _ = x.Float64()
	case time.Duration:
		n = x.Seconds()
	default:
		return 0, false
	}
	return n, !math.IsNaN(n) && !math.IsInf(n, 0)
}

// analyzer cuts a text into words by the rules of Unicode and lowers their case. There are no stop words: "IT" and "OR" are carriers
// and states as well.
var analyzer = &analysis.DefaultAnalyzer{
	Tokenizer:    unicode.NewUnicodeTokenizer(),
	TokenFilters: []analysis.TokenFilter{lowercase.NewLowerCaseFilter()},
}
