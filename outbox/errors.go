package outbox

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// The reasons for which an event is refused. Ask with errors.Is; the error itself is an *EventError.
var (
	// ErrUnknownType: the catalogue given to New has no schema of that name.
	ErrUnknownType = errors.New("unknown event type")
	// ErrNoTopic: neither the schema (millrace.topic) nor the event names a topic, or its name is not a legal one.
	ErrNoTopic = errors.New("no usable topic")
	// ErrNoKey: neither the event nor the schema (millrace.key) gives a key.
	ErrNoKey = errors.New("no key")
	// ErrMismatch: the event does not fit its schema.
	ErrMismatch = errors.New("does not fit the schema")
	// ErrTooLarge: a limit is exceeded; see Limits.
	ErrTooLarge = errors.New("over the limit")
	// ErrMalformed: a key, header, id or time holds what cannot be stored or published.
	ErrMalformed = errors.New("malformed")
)

// ErrNotMigrated is returned by New, Push and List if the tables of the outbox are not there.
var ErrNotMigrated = errors.New(`the outbox tables are missing: run "millrace migrate up" or migrate.Up`)

// ErrInTransaction is returned by New, Push and List if the *pgx.Conn is in the middle of a transaction. Schemas must
// be stored in one of their own.
var ErrInTransaction = dbtx.ErrInTransaction

// errNoTx is for a nil transaction.
var errNoTx = errors.New("outbox: no transaction given")

// EventError says which event was refused and why. Nothing has been sent to the database then: the transaction is
// as it was before the call.
type EventError struct {
	// Index is the event's place in the call, from 0.
	Index int
	// Type is the event's type; empty if it has none.
	Type string
	// Field is the dotted path of the field at fault; empty if it is not about a field.
	Field string
	// Reason is one of the Err... variables of this package.
	Reason error
	// Detail says what was found.
	Detail string
	// Err is what the encoder said, or nil.
	Err error
}

// Error returns "event 2 (shop.OrderPaid): field total: does not fit the schema: ...".
func (e *EventError) Error() string {
	name := e.Type
	if name == "" {
		name = "no type"
	}
	text := fmt.Sprintf("event %d (%s): ", e.Index, name)
	if e.Field != "" {
		text += "field " + e.Field + ": "
	}
	text += e.Reason.Error()
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Unwrap gives the reason and the encoder's error.
func (e *EventError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// Refused says whether Write gave up before it sent anything: the transaction can go on without the event. After
// any other error only a rollback is left.
func Refused(err error) bool {
	var e *EventError
	return errors.As(err, &e)
}

func refuse(reason error, format string, args ...any) *EventError {
	return &EventError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// missingTables says whether an error is the database's "no such schema" or "no such table". Every driver's error
// has the method asked for.
func missingTables(err error) bool {
	var e interface{ SQLState() string }
	if !errors.As(err, &e) {
		return false
	}
	return e.SQLState() == "42P01" || e.SQLState() == "3F000"
}
