package bleve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/blevesearch/bleve/v2"
	bsearch "github.com/blevesearch/bleve/v2/search"
	blevequery "github.com/blevesearch/bleve/v2/search/query"
	"github.com/blevesearch/bleve/v2/search/searcher"
	index "github.com/blevesearch/bleve_index_api"

	"github.com/millrace/millrace/consumers/internal/stored"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
	"github.com/millrace/millrace/consumers/search/query"
)

const (
	// maxTerms is the number of terms that the patterns of one query may match.
	maxTerms = 4096
	// maxMemory is what one query may take by bleve's own estimate, in bytes.
	maxMemory = 64 << 20
)

// The second net, for misspelt words and for terms added between counting and searching. It is a setting of the process. bleve's
// limit for one search cannot be used: over it, v2.6.1 closes searchers that it never made.
func init() { searcher.DisjunctionMaxClauseCount = 2 * maxTerms }

// Search implements search.Searcher.
func (s *Sink) Search(ctx context.Context, q search.Query) (*search.Result, error) {
	q, err := q.WithDefaults()
	if err != nil {
		return nil, err
	}
	l, ok := s.layouts[q.Entity]
	if !ok {
		return nil, fmt.Errorf("%w: %q; the index holds %s", search.ErrUnknownEntity, q.Entity, strings.Join(slices.Sorted(maps.Keys(s.layouts)), ", "))
	}
	req, patterns, err := l.request(q)
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	select {
	case s.searches <- struct{}{}:
		defer func() { <-s.searches }()
	case <-within.Done():
		return nil, outOfTime(ctx, search.ErrBusy)
	}
	res, err := s.run(within, req, patterns)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, outOfTime(ctx, search.ErrTimeout)
	}
	if err != nil {
		return nil, err
	}
	return l.result(res)
}

// outOfTime says whose time was over: the asker's, or the query's.
func outOfTime(asker context.Context, ours error) error {
	if err := asker.Err(); err != nil {
		return err
	}
	return ours
}

// run searches within the limits. bleve builds what it is going to read before it says what that takes: an error until then is the
// query's fault, a later one is not.
func (s *Sink) run(ctx context.Context, req *bleve.SearchRequest, patterns []pattern) (*bleve.SearchResult, error) {
	ix, done, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := countTerms(ctx, ix, patterns); err != nil {
		return nil, err
	}
	built := false
	ctx = context.WithValue(ctx, bleve.SearchQueryStartCallbackKey, bleve.SearchQueryStartCallbackFn(func(bytes uint64) error {
		if bytes > maxMemory {
			return fmt.Errorf("%d bytes, at most %d", bytes, maxMemory)
		}
		built = true
		return nil
	}))
	res, err := ix.SearchInContext(ctx, req)
	switch {
	case err == nil:
		return res, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !built:
		return nil, fmt.Errorf("%w: %v", search.ErrTooExpensive, err)
	}
	return nil, fmt.Errorf("search: %w", err)
}

// countTerms refuses patterns that match more terms than a query may visit. bleve collects them all before it counts.
func countTerms(ctx context.Context, ix bleve.Index, patterns []pattern) error {
	left := maxTerms
	return withReader(ix, func(r index.IndexReader) error {
		for _, p := range patterns {
			n, err := p.count(r, left)
			if err != nil {
				return err
			}
			if left -= n; left < 0 {
				return fmt.Errorf("%w: more than %d begin with %q", search.ErrTooExpensive, maxTerms, p.prefix)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

// count returns the number of terms that begin as the pattern does; it stops beyond the limit.
func (p pattern) count(r index.IndexReader, limit int) (n int, err error) {
	terms, err := r.FieldDictPrefix(p.field, []byte(p.prefix))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, terms.Close()) }()
	for ; n <= limit; n++ {
		if term, err := terms.Next(); err != nil || term == nil {
			return n, err
		}
	}
	return n, nil
}

func (l *layout) request(q search.Query) (*bleve.SearchRequest, []pattern, error) {
	inner, patterns, err := l.rewrite(q.Text)
	if err != nil {
		return nil, nil, err
	}
	order, scored, err := l.order(q.Sort)
	if err != nil {
		return nil, nil, err
	}
	if v, ok := inner.(blevequery.ValidatableQuery); ok {
		if err := v.Validate(); err != nil {
			return nil, nil, bad("%v", err)
		}
	}
	req := bleve.NewSearchRequestOptions(inner, q.Size, q.From, false)
	req.Fields = []string{stateField}
	req.SortByCustom(order)
	if !scored {
		req.Score = bleve.ScoreNone
	}
	return req, patterns, nil
}

// order makes bleve's sort order. The key comes last, so that pages neither overlap nor have gaps.
func (l *layout) order(columns []string) (order bsearch.SortOrder, scored bool, err error) {
	if len(columns) == 0 {
		columns = []string{"-_score"}
	}
	for _, c := range columns {
		name, desc := strings.CutPrefix(c, "-")
		switch name {
		case "_score":
			order, scored = append(order, &bsearch.SortScore{Desc: desc}), true
		case "_key":
			order = append(order, &bsearch.SortDocID{Desc: desc})
		default:
			by, err := l.sortField(name, desc)
			if err != nil {
				return nil, false, err
			}
			order = append(order, by)
		}
	}
	return append(order, &bsearch.SortDocID{}), scored, nil
}

func (l *layout) sortField(name string, desc bool) (*bsearch.SortField, error) {
	f, err := l.SortField(name)
	if err != nil {
		return nil, err
	}
	by := &bsearch.SortField{Field: l.field(name), Desc: desc, Type: bsearch.SortFieldAsString, Missing: bsearch.SortFieldMissingLast}
	switch f.Kind {
	case query.Number:
		by.Type = bsearch.SortFieldAsNumber
	case query.Instant:
		by.Type = bsearch.SortFieldAsDate
	}
	return by, nil
}

func (l *layout) result(res *bleve.SearchResult) (*search.Result, error) {
	out := &search.Result{Total: res.Total, Took: max(res.Took, time.Microsecond), Hits: make([]search.Hit, 0, len(res.Hits))}
	for _, h := range res.Hits {
		value, _ := h.Fields[stateField].(string)
		state, err := stored.Decode(l.Columns, []byte(value))
		if err != nil {
			return nil, fmt.Errorf("search: document %s: %w", h.ID, err)
		}
		out.Hits = append(out.Hits, search.Hit{
			Key:     strings.TrimPrefix(h.ID, l.id("")),
			Score:   finite(h.Score),
			Version: state.Version,
			Fields:  projection.Document(l.Columns, state.Values),
		})
	}
	return out, nil
}

// finite keeps what JSON cannot hold out of an answer.
func finite(score float64) float64 {
	if math.IsNaN(score) || math.IsInf(score, 0) {
		return 0
	}
	return score
}
