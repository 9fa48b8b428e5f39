package bleve

import (
	"fmt"
	"math"
	"time"

	blevequery "github.com/blevesearch/bleve/v2/search/query"

	"github.com/millrace/millrace/consumers/search/query"
)

// one turns a clause into a query on the field that its column is in.
func (r *rewriter) one(c query.Clause) (blevequery.Query, error) {
	name := r.layout.text
	if c.Field.Name != "" {
		name = r.layout.field(c.Field.Name)
	}
	switch c.Op {
	case query.Term:
		if c.Key {
			return word("_id", r.layout.id(c.Text), 0, c.Boost), nil
		}
		return word(name, c.Text, c.Fuzziness, c.Boost), nil
	case query.Words:
		if len(c.Terms) == 1 {
			return word(name, c.Terms[0], c.Fuzziness, c.Boost), nil
		}
		q := blevequery.NewPhraseQuery(c.Terms, name)
		q.SetBoost(c.Boost)
		return q, nil
	case query.Pattern:
		return r.wildcard(name, c), nil
	case query.Numbers:
		q := blevequery.NewNumericRangeInclusiveQuery(c.Min, c.Max, &c.WithMin, &c.WithMax)
		q.SetField(name)
		q.SetBoost(c.Boost)
		return q, nil
	case query.Times:
		return timeRange(name, c)
	case query.Is:
		q := blevequery.NewBoolFieldQuery(c.Value)
		q.SetField(name)
		q.SetBoost(c.Boost)
		return q, nil
	}
	return nil, fmt.Errorf("search: a clause of kind %d is unknown", c.Op)
}

// word finds one term, or those within some typing errors of it.
func word(name, term string, fuzziness int, boost float64) blevequery.Query {
	if fuzziness == 0 {
		q := blevequery.NewTermQuery(term)
		q.SetField(name)
		q.SetBoost(boost)
		return q
	}
	q := blevequery.NewFuzzyQuery(term)
	q.SetField(name)
	q.SetFuzziness(fuzziness)
	q.SetBoost(boost)
	return q
}

func (r *rewriter) wildcard(name string, c query.Clause) blevequery.Query {
	r.patterns = append(r.patterns, pattern{name, c.Prefix})
	if c.Text == c.Prefix+"*" {
		q := blevequery.NewPrefixQuery(c.Prefix)
		q.SetField(name)
		q.SetBoost(c.Boost)
		return q
	}
	q := blevequery.NewWildcardQuery(c.Text)
	q.SetField(name)
	q.SetBoost(c.Boost)
	return q
}

// The times the index can hold.
var (
	earliest = time.Unix(0, math.MinInt64).UTC().AddDate(0, 0, 1)
	latest   = time.Unix(0, math.MaxInt64).UTC().AddDate(0, 0, -1)
)

func timeRange(name string, c query.Clause) (blevequery.Query, error) {
	for _, t := range []time.Time{c.From, c.To} {
		if !t.IsZero() && (t.Before(earliest) || t.After(latest)) {
			return nil, bad("%s is outside %d to %d", t.Format(time.DateOnly), earliest.Year(), latest.Year())
		}
	}
	q := blevequery.NewDateRangeInclusiveQuery(c.From, c.To, &c.WithMin, &c.WithMax)
	q.SetField(name)
	q.SetBoost(c.Boost)
	return q, nil
}
