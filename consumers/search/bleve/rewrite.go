package bleve

import (
	"fmt"

	blevequery "github.com/blevesearch/bleve/v2/search/query"

	"github.com/millrace/millrace/consumers/search"
	"github.com/millrace/millrace/consumers/search/query"
)

// pattern is what a term begins with that a wildcard matches.
type pattern struct{ field, prefix string }

// rewrite parses text and returns a query that matches documents of the entity only, and the patterns in it.
func (l *layout) rewrite(text string) (blevequery.Query, []pattern, error) {
	ofEntity := blevequery.NewTermQuery(l.Name)
	ofEntity.SetField(entityField)
	ofEntity.SetBoost(0.001) // every hit has it: it says nothing about how well one matches
	asked, err := query.Parse(l.Entity, text)
	if err != nil {
		return nil, nil, err
	}
	if asked.Nothing {
		return blevequery.NewMatchNoneQuery(), nil, nil
	}
	r := &rewriter{layout: l}
	must, anyOf, should, not := r.all(asked.Must), r.all(asked.Any), r.all(asked.Should), r.all(asked.MustNot)
	if r.err != nil {
		return nil, nil, r.err
	}
	if len(anyOf) > 0 {
		must = append(must, blevequery.NewDisjunctionQuery(anyOf))
	}
	if len(must)+len(should)+len(not) == 0 {
		return ofEntity, nil, nil
	}
	// The entity keeps "must" from ever being empty, which bleve takes for "anything".
	return blevequery.NewBooleanQuery(append(must, ofEntity), should, not), r.patterns, nil
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", search.ErrBadQuery, fmt.Sprintf(format, args...))
}

// rewriter turns clauses into queries of bleve's; err is the first that could not be.
type rewriter struct {
	layout   *layout
	patterns []pattern
	err      error
}

func (r *rewriter) all(clauses []query.Clause) []blevequery.Query {
	var out []blevequery.Query
	for _, c := range clauses {
		q, err := r.one(c)
		if err != nil && r.err == nil {
			r.err = err
		}
		out = append(out, q)
	}
	return out
}
