//go:build cgo

package main

// cgo says whether this binary was built with cgo, and so with DuckDB.
const cgo = true
