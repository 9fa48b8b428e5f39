package search

import "errors"

var (
	// ErrBadQuery is what the asker gets for a query that cannot be answered as it stands: its syntax, a field that does not
	// exist, a limit. The message says which.
	ErrBadQuery = errors.New("bad query")
	// ErrUnknownEntity is what the asker gets for an entity the index does not hold.
	ErrUnknownEntity = errors.New("unknown entity")
	// ErrTooExpensive is what the asker gets for a query that matches more terms than one query may visit.
	ErrTooExpensive = errors.New("query matches too many terms")
	// ErrTimeout is what the asker gets when the query's time is over before its answer is there.
	ErrTimeout = errors.New("query ran out of time")
	// ErrBusy is what the asker gets when too many queries are running; asking again later helps.
	ErrBusy = errors.New("too many queries at once")
)
