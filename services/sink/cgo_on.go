//go:build cgo

package sink

// noDuckDB is nil: this program has DuckDB.
var noDuckDB error
