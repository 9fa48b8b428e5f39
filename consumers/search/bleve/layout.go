package bleve

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/blevesearch/bleve/v2/document"
	index "github.com/blevesearch/bleve_index_api"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/stored"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search/query"
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

// layout is how the states of one entity become documents.
type layout struct {
	*query.Entity
	text string // name of the field that holds all words
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
	return &layout{Entity: query.NewEntity(p), text: p.Entity() + "." + textField}
}

// field is the name of the index's field that a column is in.
func (l *layout) field(column string) string { return l.Name + "." + column }

// digest changes when documents would be made differently.
func (l *layout) digest() string {
	h := sha256.New()
	fmt.Fprintln(h, layoutVersion)
	for _, f := range l.Fields {
		fmt.Fprintln(h, l.field(f.Name), f.Kind, f.Date)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (l *layout) id(key string) string { return l.Name + "/" + key }

const (
	indexed = index.IndexField
	values  = index.IndexField | index.DocValues
	words   = index.IndexField | index.IncludeTermVectors // with positions, for phrases
)

// document makes the document of a state; of a deleted one, the stub that keeps its version.
func (l *layout) document(c fold.Change) (*document.Document, error) {
	state, err := stored.Encode(l.Columns, c.Stored)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", l.Name, c.Key, err)
	}
	doc := document.NewDocument(l.id(c.Key))
	doc.AddField(document.NewTextFieldWithIndexingOptions(stateField, nil, state, index.StoreField))
	if !c.Exists {
		return doc, nil
	}
	doc.AddField(document.NewTextFieldWithIndexingOptions(entityField, nil, []byte(l.Name), indexed))
	b := builder{layout: l, doc: doc}
	b.words(c.Key)
	for i, v := range c.Values {
		b.add(l.Fields[i], l.Columns[i].Type, v, nil)
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
	b.doc.AddField(document.NewTextFieldCustom(b.layout.text, []uint64{b.texts}, []byte(s), words, query.Analyzer))
	b.texts++
}

func (b *builder) add(f query.Field, t projection.Type, v any, at []uint64) {
	if f.Kind == query.None || v == nil {
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
		b.doc.AddField(document.NewBooleanFieldWithIndexingOptions(b.layout.field(f.Name), at, x, values))
	case time.Time:
		// A time before 1677 or after 2262 has no form in the index: it is in the state, and not found by its range.
		if d, err := document.NewDateTimeFieldWithIndexingOptions(b.layout.field(f.Name), at, x, time.RFC3339Nano, values); err == nil {
			b.doc.AddField(d)
		}
	default:
		if n, ok := asFloat(v); ok {
			b.doc.AddField(document.NewNumericFieldWithIndexingOptions(b.layout.field(f.Name), at, n, values))
		}
	}
}

func (b *builder) string(f query.Field, s string, at []uint64) {
	b.words(s)
	switch {
	case f.Kind == query.Text:
		b.doc.AddField(document.NewTextFieldCustom(b.layout.field(f.Name), at, []byte(s), words, query.Analyzer))
	case len(s) <= maxKeyword:
		b.doc.AddField(document.NewTextFieldWithIndexingOptions(b.layout.field(f.Name), at, []byte(s), values))
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
