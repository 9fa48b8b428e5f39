package relay

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/outbox/store"
)

// Errors with which Run ends. Each means that going on could lose events or publish them twice, so the relay stops and
// leaves the decision to an operator.
var (
	// ErrCursorMissing says that this outbox has published before and its cursor is gone: the cursor topic was deleted,
	// emptied, or lost its data.
	ErrCursorMissing = errors.New("the cursor is missing")

	// ErrCursorForeign says that the cursor topic belongs to another Kafka cluster, was made anew, or holds the cursor
	// of another database.
	ErrCursorForeign = errors.New("the cursor is not this outbox's")

	// ErrCursorUnreadable says that the newest cursor record was not written by a relay of this version or an earlier one.
	ErrCursorUnreadable = errors.New("the cursor cannot be read")

	// ErrParkedMissing says that the parked topic was deleted: the events it held, and which keys wait behind them, are
	// not known any more.
	ErrParkedMissing = errors.New("the parked topic is missing")

	// ErrParkedForgets says that the parked topic is not a compacted one: Kafka may delete the events it holds.
	ErrParkedForgets = errors.New("the parked topic forgets")

	// ErrParkedUnreadable says that the parked topic holds a record that no relay wrote, or a later version's.
	ErrParkedUnreadable = errors.New("a parked event cannot be read")

	// ErrAnchoring says that re-anchoring was begun and not finished: rows of the outbox may have been restamped.
	ErrAnchoring = errors.New("re-anchoring was begun and not finished")

	// ErrNoTransactions says that the broker has no transactions, or refuses the transactional ids to this user, while
	// exactly-once is asked for.
	ErrNoTransactions = errors.New("no transactions on this broker")

	// ErrPoison says that an event cannot be published, and that its topic's policy is to stop (on_poison: stop).
	ErrPoison = errors.New("an event cannot be published")

	// ErrPartitions says that a topic has fewer partitions than its keys are hashed over: it was deleted and made anew.
	ErrPartitions = errors.New("a topic has lost partitions")
)

// FieldError is what New and Config.Check return for a configuration that cannot be used.
type FieldError struct {
	// Field is the setting as files spell it, dotted: "page_size", "topics.shop.orders.partitions".
	Field string
	// Reason says what is wrong with it.
	Reason string
}

// Error returns "field: reason".
func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

func wrong(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// StopError is what Run returns when Kafka does not hold what this outbox left there. When the database is at fault, Run
// returns an error for which store.NeedsOperator is true.
type StopError struct {
	// Err is what was found.
	Err error
	// Remedy is what an operator can do about it, one sentence.
	Remedy string
}

// Error returns what was found and what to do about it.
func (e *StopError) Error() string {
	if e.Remedy == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + ": " + e.Remedy
}

// Unwrap returns Err.
func (e *StopError) Unwrap() error { return e.Err }

func stopf(remedy, format string, args ...any) error {
	return &StopError{Err: fmt.Errorf(format, args...), Remedy: remedy}
}

// mustStop says whether err ends Run; every other error is answered by starting again from the cursor. Tables that are not there yet
// are waited for: whoever makes them need not start the relay again.
func mustStop(err error) bool {
	var stop *StopError
	return errors.As(err, &stop) || store.NeedsOperator(err) && !errors.Is(err, store.ErrNotMigrated)
}
