// Package search is the read side of search sinks: a query, its limits, and the HTTP handler that answers it from any backend.
// Writing is fold.Sink, implemented by the backends in the folders below (bleve: embedded).
//
// A query's text is in query string syntax:
//
//	blue widget                  either word, in any text of the entity; documents with both come first
//	+blue +widget -red           both, and not the third
//	"blue widget"                the phrase
//	status:shipped total:>100    one field; numbers and, in quotes, times: placed_at:>="2024-03-01"
//	name:wid* name:widgit~1      a prefix, a spelling error
//
// Queries come from outside and are hostile until shown otherwise: everything in Limits is checked before a backend sees them.
package search

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of every query, whatever the backend.
const (
	// MaxText is the length of a query's text in bytes.
	MaxText = 4 << 10
	// MaxSize is the number of hits one answer holds.
	MaxSize = 1000
	// MaxDepth is how far into the hits a query may page: From + Size.
	MaxDepth = 10_000
	// MaxSort is the number of fields to sort by.
	MaxSort = 4
	// MaxTimeout is the longest a query may run.
	MaxTimeout = 10 * time.Second

	// DefaultSize is the number of hits if the query names none.
	DefaultSize = 10
	// DefaultTimeout is how long a query may run if it does not say.
	DefaultTimeout = 2 * time.Second
)

// Query asks for documents of one entity.
type Query struct {
	// Entity names what is searched, for example "order". Required.
	Entity string
	// Text is what is searched for, in query string syntax. Empty matches everything.
	Text string
	// Size is the number of hits wanted, at most MaxSize. Zero means DefaultSize; negative means none: only the total counts.
	Size int
	// From is the number of hits to pass over.
	From int
	// Sort are the columns to sort by, "-" in front for descending, "_score" and "_key" included. Empty means the best match
	// first. Equal documents come in order of key.
	Sort []string
	// Timeout bounds the query, at most MaxTimeout. Zero means DefaultTimeout.
	Timeout time.Duration
}

// Result is the answer to a Query.
type Result struct {
	// Total is the number of documents that match, whatever Size says.
	Total uint64
	// Took is how long the backend worked on it.
	Took time.Duration
	Hits []Hit
}

// Hit is one document.
type Hit struct {
	// Key is the entity's key.
	Key string
	// Score is how well the document matches; comparable within one result.
	Score float64
	// Version is the version of the state, see fold.Stored.
	Version int64
	// Fields are the columns of the state, rendered as projection.Document does.
	Fields map[string]any
}

// Searcher is what a backend offers besides fold.Sink. Errors: ErrBadQuery, ErrUnknownEntity, ErrTooExpensive, ErrTimeout, ErrBusy,
// or the backend's own.
type Searcher interface {
	Search(ctx context.Context, q Query) (*Result, error)
}

// WithDefaults returns q with zero values replaced, or an ErrBadQuery that names what is over its limit.
func (q Query) WithDefaults() (Query, error) {
	if q.Size == 0 {
		q.Size = DefaultSize
	}
	q.Size = max(q.Size, 0)
	if q.Timeout == 0 {
		q.Timeout = DefaultTimeout
	}
	q.Text = strings.TrimSpace(q.Text)
	q.Sort = slices.DeleteFunc(slices.Clone(q.Sort), func(s string) bool { return s == "" })
	return q, q.check()
}

func (q Query) check() error {
	switch {
	case q.Entity == "":
		return badQuery("entity is missing")
	case len(q.Text) > MaxText:
		return badQuery("the text has %d bytes, at most %d are searched for", len(q.Text), MaxText)
	case !utf8.ValidString(q.Text) || strings.ContainsRune(q.Text, 0):
		return badQuery("the text is not UTF-8")
	case q.Size > MaxSize:
		return badQuery("size is %d, at most %d", q.Size, MaxSize)
	case q.From < 0 || q.From > MaxDepth-q.Size:
		return badQuery("from is %d: from and size together reach from 0 to %d", q.From, MaxDepth)
	case len(q.Sort) > MaxSort:
		return badQuery("sort has %d fields, at most %d", len(q.Sort), MaxSort)
	case q.Timeout < 0 || q.Timeout > MaxTimeout:
		return badQuery("timeout is %v, at most %v", q.Timeout, MaxTimeout)
	}
	return nil
}

func badQuery(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadQuery, fmt.Sprintf(format, args...))
}
