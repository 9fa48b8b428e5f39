//go:build cgo

package duckdb

import (
	"context"
	"errors"
	"fmt"
	"testing"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/warehouse"
)

func TestErrorsHaveTheirClass(t *testing.T) {
	cases := []struct {
		err  error
		want consumers.Class
	}{
		{&duckdb.Error{Type: duckdb.ErrorTypeIO, Msg: "No space left on device"}, consumers.Systemic},
		{&duckdb.Error{Type: duckdb.ErrorTypeFatal}, consumers.Systemic},
		{&duckdb.Error{Type: duckdb.ErrorTypeInternal}, consumers.Systemic},
		{&duckdb.Error{Type: duckdb.ErrorTypeConversion}, consumers.Systemic},
		{&duckdb.Error{Type: duckdb.ErrorTypeOutOfMemory}, consumers.Transient},
		{&duckdb.Error{Type: duckdb.ErrorTypeInterrupt}, consumers.Transient},
		{&duckdb.Error{Type: duckdb.ErrorTypeTransaction}, consumers.Transient},
		{context.Canceled, consumers.Transient},
		{consumers.ErrFenced, consumers.Transient},
	}
	for _, c := range cases {
		err := doing(fmt.Errorf("merge: %w", c.err), "commit %d", 7)
		if got := consumers.Classify(err); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v is class %d, want %d", err, got, c.want)
		}
	}
}

// An answer never holds what is the server's own: its files' names above all.
func TestTheServersTroubleIsNoUsersMistake(t *testing.T) {
	for _, typ := range []duckdb.ErrorType{duckdb.ErrorTypeIO, duckdb.ErrorTypeFatal, duckdb.ErrorTypeInternal} {
		err := asked(context.Background(), &duckdb.Error{Type: typ, Msg: "/var/lib/millrace/wh.duckdb is damaged"})
		for _, e := range []error{warehouse.ErrInvalid, warehouse.ErrRefused, warehouse.ErrTimeout, warehouse.ErrTooMuch, warehouse.ErrBusy} {
			if errors.Is(err, e) {
				t.Errorf("type %d is taken for %v", typ, e)
			}
		}
	}
}
