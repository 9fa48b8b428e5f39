// Package backfill makes the first load of an outbox from tables that were there before it: every row becomes a snapshot event, written
// through the outbox like any other.
//
// # What holds
//
// Each batch is one transaction at READ COMMITTED. It locks its rows (FOR SHARE), reads them as they are committed, writes their events,
// and moves a cursor row. So:
//
//  1. A row that is there from the beginning to the end becomes exactly one event, whatever is killed in between.
//  2. Promise 2: a snapshot never takes the place of something newer. Whoever changes a row has its lock until his transaction ends, and
//     draws the id of his event while he has it; so does the backfill. The snapshot of a row is thus either before his event, or after it
//     and made of what he committed.
//  3. Writers go on. One that needs a row of the batch waits for the batch to commit, milliseconds. The backfill never waits long for a
//     lock, so that in a deadlock it is the one that gives way.
//
// What writers must do: write an event for every change of a row, in the same transaction and after the statement that changed or locked
// the row (INSERT, UPDATE, DELETE, SELECT FOR UPDATE), and must have begun to do so, all of them, before the backfill begins. Where a
// writer writes its event first and changes the row then, the snapshot may stand behind the event and hold the state before it: a sink
// keeps the old state until the next event of the key. Where a writer writes no event, a sink has what the backfill saw, if it saw the row.
//
// # Files, in the order in which a row passes them
//
//	backfill.go  Config, and what a run tells
//	run.go       Run: a batch, a transaction, the next one
//	source.go    what is read: a table or a query, its columns and its keys
//	row.go       a row becomes an event
//	state.go     how far it is: List, Reset
package backfill

import (
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/schemas"
)

// Config declares a backfill.
type Config struct {
	// Name is under which it is remembered, and the value of the header millrace-snapshot. Required.
	Name string
	// Schema is the database schema of the outbox. Default: "outbox".
	Schema string
	// Table is read; or Query, a SELECT without locks or a limit of its own, whose tables are locked row by row as they are read.
	// One of the two is required.
	Table, Query string
	// Key names the columns that rows are read in the order of: not null, unique together, and never changed by writers. Required.
	Key []string
	// Type is the event that a row becomes. Required.
	Type string
	// Fields gives fields of the event the columns they are taken from. Default: the column of the same name.
	Fields map[string]string
	// Headers are given to every event.
	Headers map[string]string
	// Batch is how many rows a transaction locks at most. Default 500.
	Batch int
	// Rate bounds the rows a second; 0 for no bound.
	Rate int
	// Catalogue holds the schema of Type. Required.
	Catalogue *schemas.Catalogue
	// DryRun reads every row and checks its event, locks nothing and writes nothing.
	DryRun bool
	// Progress is told after each batch; nil for nobody.
	Progress func(Progress)
}

const (
	defaultBatch = 500
	maxBatch     = 5000
)

// Progress is how far a run is.
type Progress struct {
	// Rows were read of Total, since the beginning of the backfill; Total is below zero if it is not known.
	Rows, Total int64
	// Rate is rows a second in this run.
	Rate float64
	// Waits says that somebody else has a row of the next batch locked.
	Waits bool
}

// Result is what a run did.
type Result struct {
	Name   string `json:"name"`
	DryRun bool   `json:"dry_run,omitempty"`
	// Rows were read by this run and Before by those that it went on with. Each is an event now (with DryRun: would be), but for
	// those that are Unfit.
	Rows   int64 `json:"rows"`
	Before int64 `json:"before,omitempty"`
	// Finished says that the end was reached. If not, running it again goes on.
	Finished bool `json:"finished"`
	// Already says that it had been finished before, and nothing was done.
	Already bool `json:"already,omitempty"`
	// Unfit counts rows that cannot become events, and Faults tells of the first hundred: DryRun only.
	Unfit   int64   `json:"unfit,omitempty"`
	Faults  []Fault `json:"faults,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Fault is a row that cannot become an event.
type Fault struct {
	Key    []string `json:"key"`
	Reason string   `json:"reason"`
}

// Errors of Run; ask with errors.Is.
var (
	// ErrRunning: another session runs this backfill.
	ErrRunning = errors.New("it runs already, in another session")
	// ErrChanged: it was begun by another declaration.
	ErrChanged = errors.New("it was begun by another declaration")
	// ErrNotMigrated: the table of backfills is not there.
	ErrNotMigrated = errors.New(`the table of backfills is missing: run "millrace migrate up"`)
	// ErrUnfit: a row cannot become an event; the error is a *RowError.
	ErrUnfit = errors.New("a row does not fit")
)

// DeclarationError is about the Config; Field is the setting as files spell it.
type DeclarationError struct{ Field, Reason string }

// Error returns "field: reason".
func (e *DeclarationError) Error() string { return e.Field + ": " + e.Reason }

func wrong(field, format string, args ...any) error {
	return &DeclarationError{field, fmt.Sprintf(format, args...)}
}

// Check says what is wrong with a declaration as far as that can be seen without a database.
func (c Config) Check() error {
	switch {
	case c.Name == "":
		return wrong("name", "is missing")
	case (c.Table == "") == (c.Query == ""):
		return wrong("table", "say what is read: table or query, one of them")
	case len(c.Key) == 0:
		return wrong("key", "is missing: the columns that tell one row from another, such as [id]")
	case c.Type == "":
		return wrong("type", "is missing: the event that a row becomes, such as shop.OrderSaved")
	case c.Batch < 0 || c.Batch > maxBatch:
		return wrong("batch", "%d is not between 1 and %d rows", c.Batch, maxBatch)
	case c.Rate < 0:
		return wrong("rate", "%d is no number of rows a second", c.Rate)
	}
	for i, k := range c.Key {
		if k == "" || slices.Contains(c.Key[:i], k) {
			return wrong("key", "column %q is empty or there twice", k)
		}
	}
	if _, ok := c.Headers[outbox.HeaderSnapshot]; ok {
		return wrong("headers", "%s is given by itself", outbox.HeaderSnapshot)
	}
	schema, ok := c.Catalogue.Lookup(c.Type)
	if !ok {
		return wrong("type", "no schema %s in the folders of schemas", c.Type)
	}
	_, err := newShape(c, schema)
	return err
}
