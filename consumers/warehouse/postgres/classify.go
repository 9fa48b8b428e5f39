package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/consumers"
)

// SQLSTATEs of our own, raised by the functions of layout.sql.
const (
	stateFenced   = "MR001"
	statePosition = "MR002"
	stateMoved    = "MR003"
)

// SQLSTATEs of the server that are looked at one by one.
const (
	lockNotAvailable    = "55P03"
	queryCanceled       = "57014"
	readOnlyTransaction = "25006"
	insufficientRight   = "42501"
	diskFull            = "53100"
	undefinedTable      = "42P01"
	undefinedFunction   = "42883"
	undefinedStatement  = "26000"
	dependentObjects    = "2BP01"
)

// systemicClasses are the classes of SQLSTATEs that no retry helps against, with what to look at. What is in none of them is transient:
// lost connections (08, 57P0x), conflicts (40), too many connections or too little memory (53), locks (55P03), a server that is a
// standby (25006), and whatever is not known.
var systemicClasses = map[string]string{
	"22": "a table does not take what its declaration says; was it altered by hand?", // the fold has coerced every value already
	"23": "a table does not take what its declaration says; was a constraint added by hand?",
	"28": "the server refuses the user; look at the user and the password of the connection string",
	"3D": "the database does not exist; create it",
	"3F": "a schema is missing; was it dropped by hand?",
	"42": "a table is not as Millrace made it; was it altered by hand? A pooler must not be in transaction mode",
	"54": "a limit of the server is reached",
}

// systemicStates are SQLSTATEs outside those classes.
var systemicStates = map[string]string{
	diskFull:          "the server's disk is full; make room",
	insufficientRight: "the user lacks a right; grant it",
	dependentObjects:  "something that others made depends on it; drop that, and make it again afterwards",
	"58030":           "the server cannot read or write its files",
	"58P01":           "the server misses one of its files",
	"XX001":           "the server's data is damaged",
	"XX002":           "an index of the server is damaged; REINDEX may mend it",
}

// classify turns what the server says into what the runtime does about it.
//
// A batch holds what the fold has coerced to the declared columns, and what Postgres cannot hold has been given a form that it can (see
// encode.go). So a value that the server refuses (22xxx) is no record's fault: dead-lettering the record would hide a table that was
// altered, one record at a time. It stops the sink.
func classify(err error) error {
	var pg *pgconn.PgError
	if err == nil || !errors.As(err, &pg) {
		return err
	}
	switch pg.Code {
	case stateFenced:
		return fmt.Errorf("%s: %w", pg.Message, consumers.ErrFenced)
	case statePosition:
		return fmt.Errorf("%s: %w", pg.Message, consumers.ErrPosition)
	case stateMoved:
		return fmt.Errorf("%s: %w", pg.Message, errMoved)
	}
	hint, systemic := systemicStates[pg.Code]
	if !systemic {
		hint, systemic = systemicClasses[pg.Code[:min(2, len(pg.Code))]]
	}
	if !systemic {
		return err
	}
	return consumers.AsSystemic(fmt.Errorf("%w (%s)", detailed(err, pg), hint))
}

// detailed adds where it went wrong, as far as the server says: never its detail, which repeats values.
func detailed(err error, pg *pgconn.PgError) error {
	var parts []string
	for name, v := range map[string]string{"table": pg.TableName, "column": pg.ColumnName, "constraint": pg.ConstraintName} {
		if v != "" {
			parts = append(parts, name+" "+v)
		}
	}
	if len(parts) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(parts, ", "))
}

// doing wraps an error with what was being done, and classifies it.
func doing(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	wrapped := fmt.Errorf(format+": %w", append(args, classify(err))...)
	if consumers.Classify(wrapped) == consumers.Systemic {
		return consumers.AsSystemic(wrapped)
	}
	return wrapped
}

// is says whether err is an error of the server of that SQLSTATE.
func is(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}
