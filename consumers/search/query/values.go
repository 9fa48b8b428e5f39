package query

import (
	"math"
	"strconv"
	"strings"
	"time"

	parser "github.com/blevesearch/bleve/v2/search/query"
)

func misspelt(term string, fuzziness int) error {
	if fuzziness == 0 {
		return nil
	}
	if fuzziness < 0 || fuzziness > maxFuzziness || len(term) > maxPattern || len(term) < minPrefix+fuzziness {
		return bad("~ allows %d or fewer errors in a word of %d to %d bytes", maxFuzziness, minPrefix+maxFuzziness, maxPattern)
	}
	return nil
}

func number(f Field, value string, boost float64) (Clause, error) {
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return Clause{}, bad("field %q holds numbers, %q is none", f.Name, value)
	}
	return Clause{Op: Numbers, Field: f, Text: value, Min: &n, Max: &n, WithMin: true, WithMax: true, Boost: boost}, nil
}

func truth(f Field, value string, boost float64) (Clause, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return Clause{}, bad("field %q holds true or false, %q is neither", f.Name, value)
	}
	return Clause{Op: Is, Field: f, Value: b, Boost: boost}, nil
}

// moment finds a time; of a date, the whole day.
func moment(f Field, value string, boost float64) (Clause, error) {
	c := Clause{Op: Times, Field: f, Text: value, WithMin: true, WithMax: true, Boost: boost}
	if day, err := time.Parse(time.DateOnly, value); err == nil {
		c.From, c.To = day, day
		if !f.Date {
			c.To, c.WithMax = day.AddDate(0, 0, 1), false
		}
		return c, nil
	}
	at, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return Clause{}, bad(`field %q holds times: write %s:2006-01-02 or %s:"2006-01-02T15:04:05Z"`, f.Name, f.Name, f.Name)
	}
	c.From, c.To = at, at
	return c, nil
}

func (r *rewriter) wildcard(name, expr string, boost float64) (Clause, error) {
	f, err := r.field(name)
	if err != nil {
		return Clause{}, err
	}
	switch f.Kind {
	case Text:
		expr = strings.ToLower(expr) // as the words of the field are
	case Keyword:
	default:
		return Clause{}, bad("field %q holds no text: wildcards do not apply", name)
	}
	prefix := expr[:strings.IndexAny(expr, "*?")]
	if len([]rune(prefix)) < minPrefix {
		return Clause{}, bad("%q: at least %d characters stand before a wildcard", expr, minPrefix)
	}
	if len(expr) > maxPattern {
		return Clause{}, bad("a pattern has at most %d bytes", maxPattern)
	}
	return Clause{Op: Pattern, Field: f, Text: expr, Prefix: prefix, Boost: boost}, nil
}

func (r *rewriter) numbers(q *parser.NumericRangeQuery) (Clause, error) {
	f, err := r.field(q.FieldVal)
	if err != nil {
		return Clause{}, err
	}
	if f.Kind != Number {
		return Clause{}, bad("field %q holds no numbers: < and > do not apply; times stand in quotes", q.FieldVal)
	}
	return Clause{Op: Numbers, Field: f, Min: q.Min, Max: q.Max, WithMin: isTrue(q.InclusiveMin), WithMax: isTrue(q.InclusiveMax), Boost: q.Boost()}, nil
}

func isTrue(b *bool) bool { return b != nil && *b }

func (r *rewriter) times(q *parser.DateRangeQuery) (Clause, error) {
	f, err := r.field(q.FieldVal)
	if err != nil {
		return Clause{}, err
	}
	if f.Kind != Instant {
		return Clause{}, bad("field %q holds no times", q.FieldVal)
	}
	return Clause{Op: Times, Field: f, From: q.Start.Time, To: q.End.Time, WithMin: isTrue(q.InclusiveStart), WithMax: isTrue(q.InclusiveEnd), Boost: q.Boost()}, nil
}
