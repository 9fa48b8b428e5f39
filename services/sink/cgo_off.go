//go:build !cgo

package sink

import "github.com/millrace/millrace/consumers/warehouse/duckdb"

// noDuckDB says that this program does not have DuckDB, and why.
var noDuckDB error = duckdb.ErrNoCgo
