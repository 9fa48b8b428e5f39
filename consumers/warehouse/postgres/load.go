package postgres

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

var (
	asBinary = []int16{1}
)

// Load implements fold.Sink: one round trip.
func (w *Warehouse) Load(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	if err := w.enter(); err != nil {
		return nil, err
	}
	defer w.leave()
	if w.current().tables[entity] == nil {
		return nil, consumers.AsSystemic(fmt.Errorf("load %s: %w", entity, errUnknownEntity))
	}
	out := make(map[string]fold.Stored, len(keys))
	if len(keys) == 0 {
		return out, nil
	}
	if err := w.load(ctx, entity, keys, out); err != nil {
		return nil, doing(err, "load %d states of %s", len(keys), entity)
	}
	return out, nil
}

func (w *Warehouse) load(ctx context.Context, entity string, keys []string, out map[string]fold.Stored) error {
	conn, _, err := w.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	t := w.current().tables[entity]
	stored, long := keys, map[string]string(nil)
	for i, k := range keys {
		if len(k) <= longKey {
			continue
		}
		if long == nil {
			stored, long = append([]string{}, keys...), map[string]string{}
		}
		stored[i] = storedKey(k)
		long[stored[i]] = k
	}
	rr := conn.Conn().PgConn().ExecPrepared(ctx, stLoad+entity, [][]byte{textArray(stored)}, asBinary, asBinary)
	var bad error
	for rr.NextRow() {
		row := rr.Values()
		s, err := t.stored(row)
		key := string(row[0])
		if whole, ok := long[key]; ok {
			key = whole
		}
		if err != nil && bad == nil {
			bad = consumers.AsSystemic(fmt.Errorf("key %q: %w", key, err))
		}
		out[key] = s
	}
	if _, err := rr.Close(); err != nil {
		return err
	}
	return bad
}
