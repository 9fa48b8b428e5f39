package warehouse

import "errors"

// What a Querier's errors wrap. The text beside them is for the asker: it never holds a path or a setting of the server.
var (
	// ErrInvalid says that the statement is wrong: a mistake in SQL, an unknown table, a division by zero.
	ErrInvalid = errors.New("invalid query")
	// ErrRefused says that the statement is not one that only reads the warehouse.
	ErrRefused = errors.New("only statements that read the warehouse are answered")
	// ErrTimeout says that the query took longer than its limit.
	ErrTimeout = errors.New("the query took too long")
	// ErrTooMuch says that the query needed more memory or temporary disk than queries may use.
	ErrTooMuch = errors.New("the query needs too much memory")
	// ErrBusy says that too many queries are running and none ended within the query's time.
	ErrBusy = errors.New("too many queries are running")
)
