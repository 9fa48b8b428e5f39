package gold

import (
	"context"
	"errors"
)

// Names writes names for an engine's SQL.
type Names interface {
	// Quote writes a column's name.
	Quote(name string) string
	// Input is the table of an input ("silver.order") for a FROM.
	Input(input string) string
}

// Engine is a warehouse that gold is built in. It is safe for concurrent use. The schemas gold (views for readers), gold_base (the tables behind
// them) and the table millrace.gold (model, record) are its to make, when they are needed first.
type Engine interface {
	Names
	// Base is a table of gold_base, Temp a temporary one, Meta one of the sink's own: positions, entities, quarantine, gold.
	Base(name string) string
	Temp(name string) string
	Meta(name string) string
	// InPlace says that a build in full replaces the rows of the table that is there, where it can: that on this engine a reader whose
	// view of the data is older than a table would find that empty.
	InPlace() bool
	// Look runs f, which only reads, in a transaction. All that f reads is of one moment. It waits for no build.
	Look(ctx context.Context, f func(Tx) error) error
	// Transaction runs f in one transaction. All that f reads is of one moment. Only one at a time runs on a warehouse, in whatever
	// process: another one gets ErrBusy.
	Transaction(ctx context.Context, f func(Tx) error) error
	// Explain says what an error of a transaction means: a text for people, the line of the statement (0 where none is known), and whether
	// it may pass by itself.
	Explain(err error) (text string, line int, transient bool)
}

// Tx is a transaction of an Engine.
type Tx interface {
	// Describe returns the columns of a query without running it. What is not one statement that only reads is an error.
	Describe(ctx context.Context, sql string) ([]Column, error)
	// Exec runs a statement of ours. Arguments stand for $1, $2, …
	Exec(ctx context.Context, sql string, args ...string) error
	// Rows runs a query whose columns are texts; a null comes as "".
	Rows(ctx context.Context, sql string, args ...string) ([][]string, error)
	// Settle makes a table that was just filled fit for queries; key are the columns that rows are replaced by, if any.
	Settle(ctx context.Context, base string, key []string) error
	// Publish has the view of a model show a table. Readers see what it showed before until the transaction commits, and the table then.
	Publish(ctx context.Context, model, base string, columns []Column) error
}

// Column is a column of a model.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

var (
	// ErrBusy says that another build is at work on the warehouse.
	ErrBusy = errors.New("another build of gold is at work on the warehouse")
	// ErrNoModel says that there is no model of that name.
	ErrNoModel = errors.New("there is no such model")
)
