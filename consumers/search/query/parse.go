package query

import (
	"github.com/blevesearch/bleve/v2/analysis"
	"github.com/blevesearch/bleve/v2/analysis/token/lowercase"
	"github.com/blevesearch/bleve/v2/analysis/tokenizer/unicode"
	parser "github.com/blevesearch/bleve/v2/search/query"
)

// Limits of one query, beyond those of package search.
const (
	// maxClauses is the number of words, phrases and ranges in a query.
	maxClauses = 64
	// minPrefix is the number of characters before the first wildcard: a pattern without them visits every term there is.
	minPrefix = 2
	// maxPattern is the length of a pattern or misspelt word in bytes: automata grow with it.
	maxPattern = 64
	// maxFuzziness is the number of typing errors in a word.
	maxFuzziness = 2
)

// Analyzer cuts a text into words by the rules of Unicode and lowers their case. There are no stop words: "IT" and "OR" are carriers
// and states as well.
var Analyzer = &analysis.DefaultAnalyzer{
	Tokenizer:    unicode.NewUnicodeTokenizer(),
	TokenFilters: []analysis.TokenFilter{lowercase.NewLowerCaseFilter()},
}

// rewriter turns what the parser makes of a text into clauses.
type rewriter struct {
	entity  *Entity
	clauses int
}

// Parse reads a text in query string syntax. Errors are search.ErrBadQuery.
func Parse(e *Entity, text string) (Query, error) {
	if text == "" || text == "*" {
		return Query{}, nil
	}
	parsed, err := parser.NewQueryStringQuery(text).Parse()
	if err != nil {
		return Query{}, bad("%v", err)
	}
	top, ok := parsed.(*parser.BooleanQuery)
	if !ok {
		return Query{}, bad("the text is not understood")
	}
	r := &rewriter{entity: e}
	var q Query
	for _, group := range []struct {
		from parser.Query
		to   *[]Clause
	}{{top.Must, &q.Must}, {top.Should, &q.Should}, {top.MustNot, &q.MustNot}} {
		if *group.to, err = r.all(group.from); err != nil {
			return Query{}, err
		}
	}
	q.Nothing = len(q.Must)+len(q.Should)+len(q.MustNot) == 0 // punctuation only
	// Where a word is required, the others only improve the score; else one of them is required.
	if len(q.Must) == 0 {
		q.Any, q.Should = q.Should, nil
	}
	return q, nil
}

// all rewrites the parts of a group. Parts without a word fall out.
func (r *rewriter) all(group parser.Query) ([]Clause, error) {
	var parts []parser.Query
	switch g := group.(type) {
	case *parser.ConjunctionQuery:
		parts = g.Conjuncts
	case *parser.DisjunctionQuery:
		parts = g.Disjuncts
	}
	var out []Clause
	for _, part := range parts {
		c, err := r.one(part)
		if err != nil {
			return nil, err
		}
		if c.Op != 0 {
			out = append(out, c)
		}
	}
	return out, nil
}

func (r *rewriter) one(q parser.Query) (Clause, error) {
	switch q := q.(type) {
	case *parser.MatchQuery:
		return r.match(q.FieldVal, q.Match, q.Fuzziness, q.Boost())
	case *parser.MatchPhraseQuery:
		return r.match(q.FieldVal, q.MatchPhrase, 0, q.Boost())
	case *parser.DisjunctionQuery: // a number may be a word as well: the parser asks for both
		if m, ok := q.Disjuncts[0].(*parser.MatchQuery); ok {
			return r.match(m.FieldVal, m.Match, 0, q.Boost())
		}
	case *parser.WildcardQuery:
		return r.wildcard(q.FieldVal, q.Wildcard, q.Boost())
	case *parser.NumericRangeQuery:
		return r.numbers(q)
	case *parser.DateRangeQuery:
		return r.times(q)
	case *parser.RegexpQuery:
		return Clause{}, bad("regular expressions are not searched for; a prefix is written wid*")
	}
	return Clause{}, bad("the text is not understood")
}

// field finds a column. Without a name it is the field of all words.
func (r *rewriter) field(name string) (Field, error) {
	if r.clauses++; r.clauses > maxClauses {
		return Field{}, bad("more than %d words", maxClauses)
	}
	if name == "" {
		return Field{Kind: Text}, nil
	}
	f, err := r.entity.Field(name)
	if err == nil && f.Kind == None {
		err = bad("field %q is not searched", name)
	}
	return f, err
}

// match finds a word, a phrase, or a value.
func (r *rewriter) match(name, value string, fuzziness int, boost float64) (Clause, error) {
	if name == "_key" {
		r.clauses++
		return Clause{Op: Term, Key: true, Text: value, Boost: boost}, nil
	}
	f, err := r.field(name)
	if err != nil {
		return Clause{}, err
	}
	switch f.Kind {
	case Number:
		return number(f, value, boost)
	case Instant:
		return moment(f, value, boost)
	case Truth:
		return truth(f, value, boost)
	case Keyword:
		return Clause{Op: Term, Field: f, Text: value, Fuzziness: fuzziness, Boost: boost}, misspelt(value, fuzziness)
	}
	return r.words(f, value, fuzziness, boost)
}

// words finds a text: one word by itself, several as a phrase, so that c-17 does not find 17-c.
func (r *rewriter) words(f Field, value string, fuzziness int, boost float64) (Clause, error) {
	c := Clause{Op: Words, Field: f, Text: value, Fuzziness: fuzziness, Boost: boost}
	for _, token := range Analyzer.Analyze([]byte(value)) {
		c.Terms = append(c.Terms, string(token.Term))
	}
	if r.clauses += max(len(c.Terms)-1, 0); r.clauses > maxClauses {
		return Clause{}, bad("more than %d words", maxClauses)
	}
	switch {
	case len(c.Terms) == 0:
		return Clause{}, nil
	case len(c.Terms) == 1:
		return c, misspelt(c.Terms[0], fuzziness)
	case fuzziness != 0:
		return Clause{}, bad("%q is several words; ~ stands behind one", value)
	}
	return c, nil
}
