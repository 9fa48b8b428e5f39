package bleve

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/blevesearch/bleve/v2/search/query"
)

// field finds a column. Without a name it is the field of all words.
func (r *rewriter) field(name string) (field, error) {
	if r.clauses++; r.clauses > maxClauses {
		return field{}, bad("more than %d words", maxClauses)
	}
	if name == "" {
		return field{name: r.layout.text, kind: text}, nil
	}
	f, ok := r.layout.byName[name]
	if !ok {
		return field{}, bad("%s has no field %q; it has %s", r.layout.entity, name, strings.Join(slices.Sorted(maps.Keys(r.layout.byName)), ", "))
	}
	if f.kind == none {
		return field{}, bad("field %q is not searched", name)
	}
	return f, nil
}

// match finds a word, a phrase, or a value.
func (r *rewriter) match(name, value string, fuzziness int, boost float64) (query.Query, error) {
	if name == "_key" {
		return r.key(value, boost)
	}
	f, err := r.field(name)
	if err != nil {
		return nil, err
	}
	switch f.kind {
	case number:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return nil, bad("field %q holds numbers, %q is none", name, value)
		}
		return numberRange(f, &n, &n, true, true, boost), nil
	case instant:
		return r.moment(f, name, value, boost)
	case truth:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return nil, bad("field %q holds true or false, %q is neither", name, value)
		}
		q := query.NewBoolFieldQuery(b)
		q.SetField(f.name)
		q.SetBoost(boost)
		return q, nil
	case keyword:
		return word(f, value, fuzziness, boost)
	}
	return r.words(f, value, fuzziness, boost)
}

func (r *rewriter) key(value string, boost float64) (query.Query, error) {
	r.clauses++
	return word(field{name: "_id"}, r.layout.id(value), 0, boost)
}

// words finds a text: one word by itself, several as a phrase, so that c-17 does not find 17-c.
func (r *rewriter) words(f field, value string, fuzziness int, boost float64) (query.Query, error) {
	var terms []string
	for _, token := range analyzer.Analyze([]byte(value)) {
		terms = append(terms, string(token.Term))
	}
	if r.clauses += max(len(terms)-1, 0); r.clauses > maxClauses {
		return nil, bad("more than %d words", maxClauses)
	}
	switch {
	case len(terms) == 0:
		return nil, nil
	case len(terms) == 1:
		return word(f, terms[0], fuzziness, boost)
	case fuzziness != 0:
		return nil, bad("%q is several words; ~ stands behind one", value)
	}
	q := query.NewPhraseQuery(terms, f.name)
	q.SetBoost(boost)
	return q, nil
}

// word finds one term, or those within some typing errors of it.
func word(f field, term string, fuzziness int, boost float64) (query.Query, error) {
	if fuzziness == 0 {
		q := query.NewTermQuery(term)
		q.SetField(f.name)
		q.SetBoost(boost)
		return q, nil
	}
	if fuzziness < 0 || fuzziness > maxFuzziness || len(term) > maxPattern || len(term) < minPrefix+fuzziness {
		return nil, bad("~ allows %d or fewer errors in a word of %d to %d bytes", maxFuzziness, minPrefix+maxFuzziness, maxPattern)
	}
	q := query.NewFuzzyQuery(term)
	q.SetField(f.name)
	q.SetFuzziness(fuzziness)
	q.SetBoost(boost)
	return q, nil
}

func (r *rewriter) wildcard(name, expr string, boost float64) (query.Query, error) {
	f, err := r.field(name)
	if err != nil {
		return nil, err
	}
	switch f.kind {
	case text:
		expr = strings.ToLower(expr) // as the words of the field are
	case keyword:
	default:
		return nil, bad("field %q holds no text: wildcards do not apply", name)
	}
	prefix := expr[:strings.IndexAny(expr, "*?")]
	if len([]rune(prefix)) < minPrefix {
		return nil, bad("%q: at least %d characters stand before a wildcard", expr, minPrefix)
	}
	if len(expr) > maxPattern {
		return nil, bad("a pattern has at most %d bytes", maxPattern)
	}
	r.patterns = append(r.patterns, pattern{f.name, prefix})
	if expr == prefix+"*" {
		q := query.NewPrefixQuery(prefix)
		q.SetField(f.name)
		q.SetBoost(boost)
		return q, nil
	}
	q := query.NewWildcardQuery(expr)
	q.SetField(f.name)
	q.SetBoost(boost)
	return q, nil
}

func (r *rewriter) numbers(q *query.NumericRangeQuery) (query.Query, error) {
	f, err := r.field(q.FieldVal)
	if err != nil {
		return nil, err
	}
	if f.kind != number {
		return nil, bad("field %q holds no numbers: < and > do not apply; times stand in quotes", q.FieldVal)
	}
	return numberRange(f, q.Min, q.Max, isTrue(q.InclusiveMin), isTrue(q.InclusiveMax), q.Boost()), nil
}

func isTrue(b *bool) bool { return b != nil && *b }

func numberRange(f field, from, to *float64, withFrom, withTo bool, boost float64) query.Query {
	q := query.NewNumericRangeInclusiveQuery(from, to, &withFrom, &withTo)
	q.SetField(f.name)
	q.SetBoost(boost)
	return q
}

func (r *rewriter) times(q *query.DateRangeQuery) (query.Query, error) {
	f, err := r.field(q.FieldVal)
	if err != nil {
		return nil, err
	}
	if f.kind != instant {
		return nil, bad("field %q holds no times", q.FieldVal)
	}
	return timeRange(f, q.Start.Time, q.End.Time, isTrue(q.InclusiveStart), isTrue(q.InclusiveEnd), q.Boost())
}

// moment finds a time; of a date, the whole day.
func (r *rewriter) moment(f field, name, value string, boost float64) (query.Query, error) {
	if day, err := time.Parse(time.DateOnly, value); err == nil {
		if f.date {
			return timeRange(f, day, day, true, true, boost)
		}
		return timeRange(f, day, day.AddDate(0, 0, 1), true, false, boost)
	}
	at, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return nil, bad(`field %q holds times: write %s:2006-01-02 or %s:"2006-01-02T15:04:05Z"`, name, name, name)
	}
	return timeRange(f, at, at, true, true, boost)
}

// The times the index can hold.
var (
	earliest = time.Unix(0, math.MinInt64).UTC().AddDate(0, 0, 1)
	latest   = time.Unix(0, math.MaxInt64).UTC().AddDate(0, 0, -1)
)

func timeRange(f field, from, to time.Time, withFrom, withTo bool, boost float64) (query.Query, error) {
	for _, t := range []time.Time{from, to} {
		if !t.IsZero() && (t.Before(earliest) || t.After(latest)) {
			return nil, bad("%s is outside %d to %d", t.Format(time.DateOnly), earliest.Year(), latest.Year())
		}
	}
	q := query.NewDateRangeInclusiveQuery(from, to, &withFrom, &withTo)
	q.SetField(f.name)
	q.SetBoost(boost)
	return q, nil
}
