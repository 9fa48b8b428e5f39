package opensearch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
)

var _ search.Searcher = (*Sink)(nil)

// maxHits bounds an answer with hits, in bytes.
const maxHits = 256 << 20

// Search implements search.Searcher. It asks this generation, whoever serves other readers.
func (s *Sink) Search(ctx context.Context, q search.Query) (*search.Result, error) {
	q, err := q.WithDefaults()
	if err != nil {
		return nil, err
	}
	l, ok := s.layouts[q.Entity]
	if !ok {
		return nil, fmt.Errorf("%w: %q; the index holds %s", search.ErrUnknownEntity, q.Entity, strings.Join(slices.Sorted(maps.Keys(s.layouts)), ", "))
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	question, err := l.question(q)
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
	began := time.Now()
	res, err := s.ask(within, l, question)
	switch {
	case errors.Is(err, context.DeadlineExceeded), within.Err() != nil:
		return nil, outOfTime(ctx, search.ErrTimeout)
	case err != nil:
		return nil, err
	}
	res.Took = max(time.Since(began), time.Microsecond)
	return res, nil
}

// outOfTime says whose time was over: the asker's, or the query's.
func outOfTime(asker context.Context, ours error) error {
	if err := asker.Err(); err != nil {
		return err
	}
	return ours
}

// hits is an answer to a search.
type hits struct {
	TimedOut bool   `json:"timed_out"`
	Shards   shards `json:"_shards"`
	Hits     struct {
		Total *total `json:"total"`
		Hits  []struct {
			Score  *float64 `json:"_score"`
			Source struct {
				State heldState `json:"_state"`
				Key   string    `json:"_key"`
			} `json:"_source"`
		} `json:"hits"`
	} `json:"hits"`
}

// total is there in every answer to a search.
type total struct {
	Value uint64 `json:"value"`
}

func (s *Sink) ask(ctx context.Context, l *layout, question object) (*search.Result, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	raw, err := s.client.send(ctx, http.MethodPost, path(l.target)+"/_search?allow_partial_search_results=false", "application/json", body, maxHits, nil)
	if err != nil {
		return nil, refusal(err)
	}
	var answer hits
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("search: %w: %v", errAnswer, err)
	}
	if answer.TimedOut {
		return nil, search.ErrTimeout
	}
	if answer.Hits.Total == nil {
		return nil, fmt.Errorf("search: %w", errAnswer)
	}
	if answer.Shards.Failed > 0 {
		return nil, fmt.Errorf("search: %d parts of the index did not answer", answer.Shards.Failed)
	}
	return l.result(&answer), nil
}

// refusal says in the words of package search what the server refuses.
func refusal(err error) error {
	var e *statusError
	if !errors.As(err, &e) {
		return fmt.Errorf("search: %w", err)
	}
	switch {
	case e.status == http.StatusTooManyRequests:
		return search.ErrBusy
	case e.status == http.StatusBadRequest && strings.Contains(e.reason, "too_many"), strings.Contains(e.kind, "too_many"):
		return fmt.Errorf("%w: %s", search.ErrTooExpensive, e.reason)
	}
	return fmt.Errorf("search: %w", err)
}

func (l *layout) result(answer *hits) *search.Result {
	out := &search.Result{Total: answer.Hits.Total.Value, Hits: make([]search.Hit, 0, len(answer.Hits.Hits))}
	for _, h := range answer.Hits.Hits {
		state, ours := h.Source.State.decode(l.Columns)
		if !ours {
			continue // a stranger's, which verifying finds: it keeps nobody from what is right
		}
		hit := search.Hit{Key: h.Source.Key, Version: state.Version, Fields: projection.Document(l.Columns, state.Values)}
		if h.Score != nil {
			hit.Score = *h.Score
		}
		out.Hits = append(out.Hits, hit)
	}
	return out
}
