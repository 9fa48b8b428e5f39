//go:build cgo

package duckdb

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/millrace/millrace/consumers"
)

// Serve implements fold.Generational. Readers ask the process that has the file, and it decides which file it asks: there is nothing to do.
func (w *Warehouse) Serve(ctx context.Context) error {
	if err := w.enter(); err != nil {
		return err
	}
	defer w.leave()
	return ctx.Err()
}

// Remove implements fold.Generational: it closes the file and deletes it with what DuckDB keeps beside it. Which generation serves is not known here, and the
// caller's care.
func (w *Warehouse) Remove(context.Context) error {
	if err := w.Close(); err != nil {
		return doing(err, "close warehouse %s", w.cfg.file())
	}
	for _, suffix := range removed {
		if err := w.at("remove" + suffix); err != nil {
			return err
		}
		if err := os.RemoveAll(w.path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return consumers.AsSystemic(fmt.Errorf("remove warehouse %s: %w", w.cfg.file(), err))
		}
	}
	w.cfg.Logger.Info("warehouse removed", "path", w.cfg.file())
	return nil
}
