//go:build cgo

package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

var errUnknownEntity = errors.New("the warehouse has no such entity")

// Load implements fold.Sink.
func (w *Warehouse) Load(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	t := w.tables[entity]
	if t == nil {
		return nil, consumers.AsSystemic(fmt.Errorf("load %s: %w", entity, errUnknownEntity))
	}
	out := make(map[string]fold.Stored, len(keys))
	if len(keys) == 0 {
		return out, nil
	}
	err := w.read(ctx, t.load, bind(keys), func(row []driver.Value) error {
		key, s, err := t.stored(row)
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		out[key] = s
		return nil
	})
	if err != nil {
		return nil, doing(err, "load %d states of %s", len(keys), entity)
	}
	return out, nil
}
