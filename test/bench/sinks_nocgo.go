//go:build !cgo

package bench

import (
	"context"
	"errors"
)

const noDuckDB = "this program was built without cgo, and DuckDB needs it"

func (r *sinkRig) duckdbCase(context.Context) error { return errors.New(noDuckDB) }

func (r *sinkRig) duckdbSilverCase(context.Context) error { return errors.New(noDuckDB) }

func (r *sinkRig) drainDuckDB(context.Context, saleTopic, string, ...string) (sinkDrained, error) {
	return sinkDrained{}, errors.New(noDuckDB)
}
