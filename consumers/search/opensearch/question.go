package opensearch

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
	"github.com/millrace/millrace/consumers/search/query"
)

// question is a search in the words of the server. It holds nothing that the asker wrote but values.
func (l *layout) question(q search.Query) (object, error) {
	asked, err := query.Parse(l.Entity, q.Text)
	if err != nil {
		return nil, err
	}
	matching, err := l.matching(asked)
	if err != nil {
		return nil, err
	}
	order, scored, err := l.order(q.Sort)
	if err != nil {
		return nil, err
	}
	return object{
		"query": matching, "sort": order, "size": q.Size, "from": q.From, "track_total_hits": true, "track_scores": scored,
		"timeout": fmt.Sprintf("%dms", max(q.Timeout.Milliseconds(), 1)), "_source": []string{stateField, keyField},
	}, nil
}

func (l *layout) matching(q query.Query) (object, error) {
	if q.Nothing {
		return object{"match_none": object{}}, nil
	}
	must, err := l.all(q.Must)
	if err != nil {
		return nil, err
	}
	anyOf, err := l.all(q.Any)
	if err != nil {
		return nil, err
	}
	should, err := l.all(q.Should)
	if err != nil {
		return nil, err
	}
	not, err := l.all(q.MustNot)
	if err != nil {
		return nil, err
	}
	if len(anyOf) > 0 {
		must = append(must, object{"bool": object{"should": anyOf, "minimum_should_match": 1}})
	}
	filter := []object{{"term": object{liveField: true}}}
	return object{"bool": object{"must": must, "should": should, "must_not": not, "filter": filter, "minimum_should_match": 0}}, nil
}

func (l *layout) all(clauses []query.Clause) ([]object, error) {
	out := make([]object, 0, len(clauses))
	for _, c := range clauses {
		one, err := l.clause(c)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

func (l *layout) clause(c query.Clause) (object, error) {
	name := c.Field.Name
	switch {
	case c.Key:
		return object{"term": object{keyField: object{"value": c.Text, "boost": c.Boost}}}, nil
	case name == "":
		name = textField
	}
	switch c.Op {
	case query.Term:
		if c.Fuzziness > 0 {
			return object{"fuzzy": object{name: object{"value": c.Text, "fuzziness": c.Fuzziness, "boost": c.Boost}}}, nil
		}
		return object{"term": object{name: object{"value": c.Text, "boost": c.Boost}}}, nil
	case query.Words:
		if c.Fuzziness > 0 {
			return object{"match": object{name: object{"query": c.Text, "fuzziness": c.Fuzziness, "boost": c.Boost}}}, nil
		}
		return object{"match_phrase": object{name: object{"query": c.Text, "boost": c.Boost}}}, nil
	case query.Pattern:
		if c.Text == c.Prefix+"*" {
			return object{"prefix": object{name: object{"value": c.Prefix, "boost": c.Boost}}}, nil
		}
		return object{"wildcard": object{name: object{"value": c.Text, "boost": c.Boost}}}, nil
	case query.Is:
		return object{"term": object{name: object{"value": c.Value, "boost": c.Boost}}}, nil
	case query.Numbers:
		return numbers(c)
	case query.Times:
		return times(c)
	}
	return nil, fmt.Errorf("search: a clause of kind %d is unknown", c.Op)
}

// numbers finds a range. Whole numbers and long decimals are compared exactly, as far as the query's own numbers are exact.
func numbers(c query.Clause) (object, error) {
	if isWide(c.Field) {
		return exactly(c)
	}
	within := object{"boost": c.Boost}
	for _, end := range []struct {
		of        *float64
		with      bool
		op, opToo string
	}{{c.Min, c.WithMin, "gt", "gte"}, {c.Max, c.WithMax, "lt", "lte"}} {
		if end.of == nil {
			continue
		}
		op := end.op
		if end.with {
			op = end.opToo
		}
		within[op] = *end.of
		if n, err := strconv.ParseInt(c.Text, 10, 64); err == nil && c.Field.Type.Kind == projection.Int {
			within[op] = n
		}
	}
	return object{"range": object{c.Field.Name: within}}, nil
}

// exactly finds a range of decimals by their sortable forms.
func exactly(c query.Clause) (object, error) {
	within := object{"boost": c.Boost}
	if c.Min != nil {
		text, exact := sortable(c.Field.Type, decimal(c, *c.Min))
		switch {
		case exact && c.WithMin:
			within["gte"] = text
		default: // above a number that the type cannot hold is above the one below it
			within["gt"] = text
		}
	}
	if c.Max != nil {
		text, exact := sortable(c.Field.Type, decimal(c, *c.Max))
		switch {
		case exact && !c.WithMax:
			within["lt"] = text
		default:
			within["lte"] = text
		}
	}
	if c.Min == c.Max && c.Min != nil {
		if _, exact := sortable(c.Field.Type, decimal(c, *c.Min)); !exact {
			return object{"match_none": object{}}, nil
		}
	}
	return object{"range": object{sortField + "." + c.Field.Name: within}}, nil
}

// decimal is the number as it stands in the query, where that is known, or the shortest one that reads as the same double.
func decimal(c query.Clause, f float64) *big.Rat {
	for _, text := range []string{c.Text, strconv.FormatFloat(f, 'g', -1, 64)} {
		// An exponent may ask for more digits than there is memory; the double's own are bounded.
		if text == "" || len(text) > 64 || !plausible(f) || text == c.Text && strings.Trim(text, "+-.0123456789") != "" {
			continue
		}
		if r, ok := new(big.Rat).SetString(text); ok {
			return r
		}
	}
	r := new(big.Rat)
	r.SetFloat64(f)
	return r
}

// plausible keeps exponents out of exact arithmetic that no decimal has.
func plausible(f float64) bool { return f == 0 || f > 1e-80 && f < 1e80 || f < -1e-80 && f > -1e80 }

// The years that the index can hold.
const (
	firstYear = 1
	lastYear  = 9999
)

func times(c query.Clause) (object, error) {
	within := object{"boost": c.Boost, "format": "strict_date_optional_time"}
	for _, end := range []struct {
		of        time.Time
		with      bool
		op, opToo string
	}{{c.From, c.WithMin, "gt", "gte"}, {c.To, c.WithMax, "lt", "lte"}} {
		if end.of.IsZero() {
			continue
		}
		if y := end.of.UTC().Year(); y < firstYear || y > lastYear {
			return nil, fmt.Errorf("%w: the year of %s is outside %d to %d", search.ErrBadQuery, end.of.Format(time.DateOnly), firstYear, lastYear)
		}
		op := end.op
		if end.with {
			op = end.opToo
		}
		within[op] = end.of.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return object{"range": object{c.Field.Name: within}}, nil
}

// order is the sort order. The key comes last, so that pages neither overlap nor have gaps.
func (l *layout) order(columns []string) (order []object, scored bool, err error) {
	if len(columns) == 0 {
		columns = []string{"-_score"}
	}
	for _, c := range columns {
		name, desc := strings.CutPrefix(c, "-")
		direction := "asc"
		if desc {
			direction = "desc"
		}
		switch name {
		case "_score":
			order, scored = append(order, object{"_score": object{"order": direction}}), true
			continue
		case "_key":
			order = append(order, object{keyField: object{"order": direction}})
			continue
		}
		f, err := l.SortField(name)
		if err != nil {
			return nil, false, err
		}
		if isWide(f) {
			name = sortField + "." + name
		}
		order = append(order, object{name: object{"order": direction, "missing": "_last"}})
	}
	return append(order, object{keyField: object{"order": "asc"}}), scored, nil
}
