package duckdb

import "errors"

var (
	// ErrRebuild is what Open's error wraps when a declaration and the store do not belong together: the declaration has changed, or is
	// new and its topic's events have gone by. The entity must be rebuilt. It is systemic.
	ErrRebuild = errors.New("the entity must be rebuilt")
	// ErrOpen is what Open's error wraps when the file is open already, in this process, which is systemic, or in
	// another, which may pass.
	ErrOpen = errors.New("the warehouse is open already")
	// ErrClosed is what every call returns after Close.
	ErrClosed = errors.New("the warehouse is closed")
	// ErrNoCgo is what Open's error wraps in a program that was built without cgo. It is systemic.
	ErrNoCgo = errors.New("this program was built without cgo and so without DuckDB; build it with CGO_ENABLED=1 and a C++ compiler")
)
