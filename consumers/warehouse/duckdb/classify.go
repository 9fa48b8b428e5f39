//go:build cgo

package duckdb

import (
	"errors"
	"fmt"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers"
)

// classify marks what DuckDB reports. A full disk, a damaged file, a store that does not take what its own declaration says: no
// retry helps, so the sink stops. What passes by itself - memory, an interrupted statement - is tried again.
func classify(err error) error {
	var derr *duckdb.Error
	if err == nil || !errors.As(err, &derr) {
		return err
	}
	switch derr.Type {
	case duckdb.ErrorTypeOutOfMemory, duckdb.ErrorTypeInterrupt, duckdb.ErrorTypeTransaction:
		return err
	}
	return consumers.AsSystemic(err)
}

// doing wraps an error with what was being done, and classifies it.
func doing(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return classify(fmt.Errorf(format+": %w", append(args, err)...))
}
