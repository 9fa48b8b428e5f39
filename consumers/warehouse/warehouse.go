// Package warehouse is what the warehouse's backends share: the contract of read-only SQL, and the HTTP handler that serves it.
// The backends are in sub-packages: duckdb, postgres.
//
// A warehouse keeps bronze (bronze.events: every event, append-only, as it came) and silver (silver.ENTITY: one typed row for each
// entity that exists, with _key, _version and _event_time beside the declared columns). Times are UTC.
package warehouse

import (
	"bytes"
	"context"
	"encoding/json"
	"time"
)

// Querier answers read-only SQL. It is safe for concurrent use.
type Querier interface {
	// Query runs one statement that reads. The errors are those of errors.go; whatever is none of them is the warehouse's own trouble.
	Query(ctx context.Context, sql string, limits Limits) (*Result, error)
}

// Limits hold a query to what the asker wants to wait for and to receive. A zero field takes its default, a greater one than the
// maximum the maximum.
type Limits struct {
	// MaxRows is the number of rows returned at most. Default 1,000, maximum 100,000.
	MaxRows int
	// Timeout is the time the query may take. Default 10 s, maximum 5 min.
	Timeout time.Duration
	// MaxBytes is the size of all values together at most, roughly. Default and maximum 16 MiB.
	MaxBytes int
}

// The greatest values a Limits can have.
const (
	MaxRows    = 100_000
	MaxTimeout = 5 * time.Minute
	MaxBytes   = 16 << 20
)

// WithDefaults returns a copy with every field set and within its maximum.
func (l Limits) WithDefaults() Limits {
	if l.MaxRows <= 0 {
		l.MaxRows = 1000
	}
	if l.Timeout <= 0 {
		l.Timeout = 10 * time.Second
	}
	if l.MaxBytes <= 0 {
		l.MaxBytes = MaxBytes
	}
	l.MaxRows = min(l.MaxRows, MaxRows)
	l.Timeout = min(l.Timeout, MaxTimeout)
	l.MaxBytes = min(l.MaxBytes, MaxBytes)
	return l
}

// Result is the answer to a query. Every value can be written as JSON and is exact: nil, bool, string, json.Number for numbers of
// any size, json.RawMessage for lists, structs, maps and JSON (a JSON document within a list is the one thing that can lose digits, of
// numbers with more than 17). Timestamps are RFC 3339 in UTC, blobs base64; floats that are no
// numbers are the texts NaN, Infinity and -Infinity.
type Result struct {
	Columns []string `json:"columns"`
	// Types are the columns' SQL types, for example DECIMAL(12,2).
	Types []string `json:"types"`
	Rows  [][]any  `json:"rows"`
	// Truncated says that there were more rows than the limits let through.
	Truncated bool `json:"truncated"`
	// Elapsed is the time the query took; in JSON a Go duration ("12.3ms").
	Elapsed time.Duration `json:"-"`
}

// wire is a Result as it travels.
type wire struct {
	plain
	Elapsed string `json:"elapsed"`
}

type plain Result

// MarshalJSON writes no rows as an empty list.
func (r Result) MarshalJSON() ([]byte, error) {
	if r.Rows == nil {
		r.Rows = [][]any{}
	}
	return json.Marshal(wire{plain(r), r.Elapsed.String()})
}

// UnmarshalJSON reads what MarshalJSON wrote, for clients. Numbers become json.Number and so stay exact.
func (r *Result) UnmarshalJSON(text []byte) error {
	var w wire
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&w); err != nil {
		return err
	}
	*r = Result(w.plain)
	var err error
	r.Elapsed, err = time.ParseDuration(w.Elapsed)
	return err
}
