package bleve

import (
	"fmt"

	"github.com/blevesearch/bleve/v2/search/query"

	"github.com/millrace/millrace/consumers/search"
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

// rewriter turns a parsed query string into a query on one entity's fields: every field is one of the entity's, every word is
// analysed as the field is, and what would visit too much is refused.
type rewriter struct {
	layout   *layout
	clauses  int
	patterns []pattern
}

// pattern is what a term begins with that a wildcard matches.
type pattern struct{ field, prefix string }

// rewrite parses text and returns a query that matches documents of the entity only, and the patterns in it.
func (l *layout) rewrite(text string) (query.Query, []pattern, error) {
	ofEntity := query.NewTermQuery(l.entity)
	ofEntity.SetField(entityField)
	ofEntity.SetBoost(0.001) // every hit has it: it says nothing about how well one matches
	if text == "" || text == "*" {
		return ofEntity, nil, nil
	}
	parsed, err := query.NewQueryStringQuery(text).Parse()
	if err != nil {
		return nil, nil, bad("%v", err)
	}
	top, ok := parsed.(*query.BooleanQuery)
	if !ok {
		return nil, nil, bad("the text is not understood")
	}
	r := &rewriter{layout: l}
	must, err := r.all(top.Must)
	if err != nil {
		return nil, nil, err
	}
	should, err := r.all(top.Should)
	if err != nil {
		return nil, nil, err
	}
	mustNot, err := r.all(top.MustNot)
	if err != nil {
		return nil, nil, err
	}
	if len(must)+len(should)+len(mustNot) == 0 {
		return query.NewMatchNoneQuery(), nil, nil // punctuation only
	}
	// Where a word is required, the others only improve the score; else one of them is required.
	if len(must) == 0 && len(should) > 0 {
		must, should = []query.Query{query.NewDisjunctionQuery(should)}, nil
	}
	// The entity keeps "must" from ever being empty, which bleve takes for "anything".
	return query.NewBooleanQuery(append(must, ofEntity), should, mustNot), r.patterns, nil
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", search.ErrBadQuery, fmt.Sprintf(format, args...))
}

// all rewrites the parts of a group. Parts without a word fall out.
func (r *rewriter) all(group query.Query) ([]query.Query, error) {
	var parts []query.Query
	switch g := group.(type) {
	case *query.ConjunctionQuery:
		parts = g.Conjuncts
	case *query.DisjunctionQuery:
		parts = g.Disjuncts
	}
	var out []query.Query
	for _, part := range parts {
		q, err := r.one(part)
		if err != nil {
			return nil, err
		}
		if q != nil {
			out = append(out, q)
		}
	}
	return out, nil
}

func (r *rewriter) one(q query.Query) (query.Query, error) {
	switch q := q.(type) {
	case *query.MatchQuery:
		return r.match(q.FieldVal, q.Match, q.Fuzziness, q.Boost())
	case *query.MatchPhraseQuery:
		return r.match(q.FieldVal, q.MatchPhrase, 0, q.Boost())
	case *query.DisjunctionQuery: // a number may be a word as well: the parser asks for both
		if m, ok := q.Disjuncts[0].(*query.MatchQuery); ok {
			return r.match(m.FieldVal, m.Match, 0, q.Boost())
		}
	case *query.WildcardQuery:
		return r.wildcard(q.FieldVal, q.Wildcard, q.Boost())
	case *query.NumericRangeQuery:
		return r.numbers(q)
	case *query.DateRangeQuery:
		return r.times(q)
	case *query.RegexpQuery:
		return nil, bad("regular expressions are not searched for; a prefix is written wid*")
	}
	return nil, bad("the text is not understood")
}
